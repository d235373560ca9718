// Measures a page in the browser. Each check returns descriptions of problems, or an empty list.
(() => {
  const allElements = function* (root = document) {
    for (const element of root.querySelectorAll("*")) {
      yield element
      if (element.shadowRoot) yield* allElements(element.shadowRoot)
    }
  }
  const parentOf = (element) => element.parentElement ?? element.getRootNode().host
  const ownText = (element) => [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim())
  const isIcon = (element) => getComputedStyle(element).fontFamily.includes("Material Symbols")
  const isSeen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true })

  // Visible text: no icons, and no text for screen readers only.
  const texts = function* () {
    for (const element of allElements()) {
      const nodes = ownText(element)
      if (!nodes.length || isIcon(element) || !isSeen(element) || element.closest("script, style, title")) continue
      const range = document.createRange()
      range.setStart(nodes[0], 0)
      range.setEnd(nodes.at(-1), nodes.at(-1).length)
      const box = range.getBoundingClientRect()
      if (box.width > 1 && box.height > 1) yield [element, box, nodes.map((node) => node.data.trim()).join(" ")]
    }
  }

  const overflow = () => {
    const found = []
    for (const element of [document.documentElement, document.querySelector("[data-testid=stMain]")])
      if (element.scrollWidth > element.clientWidth + 1)
        found.push(`<${element.localName}> is ${element.scrollWidth} px wide in ${element.clientWidth}`)
    return found
  }

  // Numbers, and names of figures, that are partly cut off, by an ellipsis or by a box around them.
  const cut = () => {
    const found = new Set()
    for (const [element, box, text] of texts()) {
      if (!/\d/.test(text) && !element.closest("[data-testid=stMetricLabel]")) continue
      if (element.closest("[role=option], [role=listbox]")) continue
      for (let holder = element; holder && holder !== document.body; holder = parentOf(holder)) {
        const { overflowX, position } = getComputedStyle(holder)
        if (["auto", "scroll"].includes(overflowX)) break
        if (position === "absolute" && holder.clientWidth <= 1) break // for screen readers
        if (!["hidden", "clip"].includes(overflowX)) continue
        const own = holder.getBoundingClientRect()
        const lost = Math.max(box.right - own.right, own.left - box.left)
        if (lost > 1.5) found.add(`${lost.toFixed(0)} px of “${text.slice(0, 60)}” are cut off`)
      }
    }
    return [...found]
  }

  const overlap = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2

  // Charts without marks or axes, and labels that overlap or leave the chart.
  const charts = () => {
    const found = []
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      const title = plot.querySelector(".gtitle")?.textContent || plot.layout?.title?.text || "a chart"
      const marks = plot.querySelectorAll(".cartesianlayer :is(.point path, .points path, .js-line), .shapelayer path")
      const points = (plot.data ?? []).reduce((sum, trace) => sum + (trace.x?.length ?? trace.y?.length ?? trace.z?.length ?? 0), 0)
      if (!points || !marks.length) found.push(`${title}: ${points} points, ${marks.length} marks`)
      const words = [...plot.querySelectorAll(".xtick text, .ytick text, .gtitle, .legendtext, .xtitle, .ytitle")]
        .filter((word) => word.textContent.trim() && isSeen(word))
        .map((word) => [word.textContent, word.getBoundingClientRect()])
      if (!plot.querySelector(".xtick text") && !plot.querySelector(".ytick text")) found.push(`${title}: no labels on its axes`)
      const own = plot.querySelector(".main-svg").getBoundingClientRect()
      words.forEach(([text, box], index) => {
        if (box.left < own.left - 1 || box.right > own.right + 1) found.push(`${title}: “${text}” leaves the chart`)
        for (const [other, otherBox] of words.slice(index + 1))
          if (overlap(box, otherBox)) found.push(`${title}: “${text}” overlaps “${other}”`)
      })
    }
    return found
  }

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  const known = new Map()
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1)
      canvas.fillStyle = colour
      canvas.fillRect(0, 0, 1, 1)
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data
      known.set(colour, [r, g, b, a / 255])
    }
    return known.get(colour)
  }
  const over = ([r, g, b, a], [r2, g2, b2]) => [r * a + r2 * (1 - a), g * a + g2 * (1 - a), b * a + b2 * (1 - a), 1]
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const backgroundOf = (element) => {
    const layers = []
    for (let holder = element; holder; holder = parentOf(holder)) {
      const colour = rgba(getComputedStyle(holder).backgroundColor)
      if (colour[3]) layers.push(colour)
      if (colour[3] === 1) break
    }
    return layers.reverse().reduce((below, above) => over(above, below), rgba(getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor))
  }

  const SWITCHED_OFF = ":disabled, [aria-disabled=true], [data-stale=true], [data-testid=stTextInput]:has(:disabled)"

  // Contrast by WCAG 2.2, 1.4.3: 4.5 : 1, for large text 3 : 1; disabled elements are exempt.
  const faint = () => {
    const found = new Set()
    for (const [element, , text] of texts()) {
      if (!/[\p{L}\p{N}]/u.test(text) || element.closest("svg") || element.closest(SWITCHED_OFF)) continue
      const style = getComputedStyle(element)
      let shown = 1
      for (let holder = element; holder; holder = parentOf(holder)) shown *= Number(getComputedStyle(holder).opacity)
      const back = backgroundOf(element), [r, g, b, a] = rgba(style.color)
      const [one, other] = [light(over([r, g, b, a * shown], back)), light(back)].sort((x, y) => y - x)
      const ratio = (one + 0.05) / (other + 0.05), size = parseFloat(style.fontSize)
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
      if (ratio < (large ? 3 : 4.45)) found.add(`${ratio.toFixed(2)} : 1 of “${text.slice(0, 50)}”`)
    }
    return [...found]
  }

  // The focused element, and whether the focus is visible: compares the styles with and without focus.
  const focused = () => {
    let element = document.activeElement
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
    return element
  }
  const stylesAround = (element) => {
    const near = [element]
    for (let holder = parentOf(element), level = 0; holder && level < 4; holder = parentOf(holder), level += 1) near.push(holder, ...(level < 2 ? holder.querySelectorAll("*") : []))
    return near.slice(0, 60).map((one) => {
      const { outlineStyle, outlineWidth, outlineColor, boxShadow, borderTopColor, borderBottomColor, backgroundColor } = getComputedStyle(one)
      return [outlineStyle === "none" ? "" : outlineWidth + outlineColor, boxShadow, borderTopColor, borderBottomColor, backgroundColor].join()
    }).join(";")
  }
  // The focused element's name, and the previous element's if its focus was invisible.
  const stop = async () => {
    const moving = document.getAnimations().filter((one) => one instanceof CSSTransition)
    await Promise.allSettled(moving.map((one) => one.finished))
    const element = focused(), before = window.__stop
    const focusShown = before && before.element.isConnected ? stylesAround(before.element) !== before.styles : true
    const unseen = before && !focusShown ? before.name : ""
    if (!element || element === document.body) { window.__stop = null; return { name: "", unseen } }
    const label = element.getAttribute("aria-label") || element.innerText || element.title || element.labels?.[0]?.innerText || element.dataset.testid || ""
    const name = `${element.getAttribute("role") ?? element.localName} ${label.replace(/\s+/g, " ").trim().slice(0, 80)}`
    window.__stop = { element, name, styles: stylesAround(element) }
    return { name, unseen }
  }

  // No script runs, nothing of an earlier page remains, every chart is drawn.
  const atRest = () =>
    document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning" &&
    !document.querySelector("[data-cold], [data-stale=true], [data-testid=stSkeleton]") &&
    [...document.querySelectorAll("[data-testid=stPlotlyChart]")].every((chart) => chart.querySelector(".js-plotly-plot .main-svg"))

  window.checks = { atRest, overflow, cut, charts, faint, stop }
})()
