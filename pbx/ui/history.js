// A step of the browser's history is another page, or another call or agent opened on it. What a page writes into its own
// address besides, one parameter after the other, belongs to the step it stands on.
{
  const push = history.pushState.bind(history)
  // Between a click on a link and the step to its page, Streamlit writes that page's parameters into the page left.
  const LEAVING_MS = 10_000
  let left = -LEAVING_MS
  const leave = (event) => {
    const link = event.composedPath().find((node) => node.localName === "a")
    const elsewhere = link?.origin === location.origin && link.pathname !== location.pathname
    const aside = link?.target === "_blank" || link?.hasAttribute("download")
    if (elsewhere && !aside && !event.metaKey && !event.ctrlKey && !event.shiftKey) left = performance.now()
  }
  addEventListener("click", leave, true)
  history.pushState = (state, unused, url) => {
    const to = new URL(url, location.href)
    const opened = { interactions: "call", agents: "agent" }[to.pathname.split("/").at(-1)]
    const same = (name) => to.searchParams.get(name) === new URL(location.href).searchParams.get(name)
    if (to.pathname !== location.pathname) {
      left = -LEAVING_MS
      push(state, unused, url)
    } else if (performance.now() - left < LEAVING_MS) return
    else if (opened && !same(opened)) push(state, unused, url)
    else history.replaceState(state, unused, url)
  }

  // Open a page of the app as a click on the sidebar does. What was typed just before may have Streamlit draw the page
  // left once more, and stay on it: then it is asked again, and at last loaded.
  window.goToPage = (url) => {
    const to = new URL(url, location.href).href
    const title = document.title
    const elsewhere = new URL(to).pathname !== location.pathname
    const ask = () => dispatchEvent(new PopStateEvent("popstate"))
    history.pushState({}, "", to)
    ask()
    if (!elsewhere) return
    const timers = [
      setTimeout(() => document.title === title && (history.replaceState({}, "", to), ask()), 1500),
      setTimeout(() => document.title === title && location.replace(to), 4500),
    ]
    addEventListener("popstate", (event) => event.isTrusted && timers.forEach(clearTimeout)) // Back
  }
}
