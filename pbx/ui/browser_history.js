// The browser's history has one step per page, and per call or agent opened on a page. Other changes that a page makes to
// its own URL replace the current step.
{
  const push = history.pushState.bind(history)
  // Between a click on a link and the step to its page, Streamlit writes the new page's parameters into the old page's URL.
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

  // Open a page of the app as a click in the sidebar does. If the user has just typed something, Streamlit may redraw the
  // old page and stay on it. Then this tries again, and finally loads the URL.
  window.goToPage = (url) => {
    const to = new URL(url, location.href).href
    const title = document.title
    const elsewhere = new URL(to).pathname !== location.pathname
    const openPage = () => dispatchEvent(new PopStateEvent("popstate"))
    history.pushState({}, "", to)
    openPage()
    if (!elsewhere) return
    const timers = [
      setTimeout(() => document.title === title && (history.replaceState({}, "", to), openPage()), 1500),
      setTimeout(() => document.title === title && location.replace(to), 4500),
    ]
    addEventListener("popstate", (event) => event.isTrusted && timers.forEach(clearTimeout)) // Back
  }
}
