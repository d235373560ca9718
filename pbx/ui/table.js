// A table whose cells are text and nothing else: a caller’s name may contain HTML, which must not run.
const fill = (holder, cell, pickCell) => {
  const { text, sub, tone, badge, pick } = typeof cell === "string" ? { text: cell } : cell
  const main = element(pick ? "button" : "span", badge ? "badge" : tone ? `state ${tone}` : "text", text)
  if (pick) {
    main.onclick = (event) => {
      event.stopPropagation() // it opens something other than its row
      pickCell(pick)
    }
    main.onkeydown = (event) => (event.key === "Enter" || event.key === " ") && event.stopPropagation()
  }
  holder.append(main)
  if (sub) holder.append(element("span", "sub", sub))
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".table")
  const table = element("table")
  table.setAttribute("aria-label", data.label)
  const head = table.createTHead().insertRow()
  for (const column of data.columns) {
    const cell = element("th", column.align ?? "", column.title)
    cell.scope = "col"
    head.append(cell)
  }
  const body = table.createTBody()
  for (const row of data.rows) {
    const line = body.insertRow()
    row.cells.forEach((cell, index) => {
      const { title, align } = data.columns[index]
      const made = line.insertCell()
      made.className = align ?? ""
      made.dataset.title = title
      fill(made, cell, (id) => setTriggerValue("pick", id))
    })
    if (!data.pick) continue
    const pick = () => {
      setTriggerValue("pick", row.id)
      // What was picked is shown above the cards.
      if (root.classList.contains("cards")) parentElement.host?.closest("section")?.scrollTo({ top: 0 })
    }
    line.dataset.id = row.id
    line.tabIndex = 0
    line.setAttribute("aria-selected", String(row.id === data.selected))
    line.onclick = () => {
      if (!getSelection().isCollapsed) return
      pick()
      line.blur() // so that keys go to what was opened and don’t click the row again
    }
    line.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault()
        pick()
      } else if (event.key === "ArrowDown") line.nextElementSibling?.focus()
      else if (event.key === "ArrowUp") line.previousElementSibling?.focus()
      else return
      event.preventDefault()
    }
  }
  // If the columns don't fit, each row becomes a small card.
  const fit = () => {
    root.classList.remove("cards")
    root.classList.toggle("cards", table.scrollWidth > root.clientWidth)
  }
  const place = parentElement.host?.closest("[class*=st-key-]")
  const observer = new ResizeObserver(() => {
    fit()
    if (place) place.style.minHeight = "0" // its height was reserved until now
  })
  root.draw = () => {
    const focused = parentElement.activeElement?.dataset?.id
    root.replaceChildren(table)
    observer.observe(parentElement.host ?? root)
    fit()
    if (focused) [...body.rows].find((line) => line.dataset.id === focused)?.focus({ preventScroll: true })
  }
  // A press becomes a click only if its row stays. New data that arrives in between is drawn afterwards, only the newest.
  if (!root.matches(":active")) root.draw()
  else if (!root.waits) {
    root.waits = new AbortController()
    const go = () => {
      root.waits?.abort()
      root.waits = null
      setTimeout(() => root.draw(), 50) // on touch screens the click comes a moment later
    }
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, go, { signal: root.waits.signal })
  }
  return () => observer.disconnect()
}
