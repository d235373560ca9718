// A step of the browser's history is another page, or another call or agent opened on it. What a page writes into its own
// address besides, one parameter after the other, belongs to the step it stands on.
if (!history.inSteps) {
  history.inSteps = true
  const push = history.pushState.bind(history)
  history.pushState = (state, unused, url) => {
    const to = new URL(url, location.href)
    const opened = { interactions: "call", agents: "agent" }[to.pathname.split("/").at(-1)]
    const same = (name) => to.searchParams.get(name) === new URL(location.href).searchParams.get(name)
    if (to.pathname !== location.pathname || (opened && !same(opened))) push(state, unused, url)
    else history.replaceState(state, unused, url)
  }
}
