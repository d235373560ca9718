// Search results. Transcripts go in as text, never as HTML; each mention is a real link, so it can open in another tab.
const mention = (hit) => {
  const link = element("a", `hit ${hit.side}`)
  link.href = hit.href
  link.onclick = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    event.preventDefault()
    if (getSelection().isCollapsed) goToPage(link.href)
  }
  const where = element("span", "where")
  where.append(element("span", "at", hit.at))
  if (hit.speaker) where.append(element("span", "speaker", hit.speaker))
  for (const mark of hit.marks) where.append(element("span", "mark", mark))
  const said = element("span", "said")
  said.dir = "auto"
  if (hit.before) said.append(element("span", "context", `${hit.before} `))
  const text = element("span", "text")
  for (const [part, marked] of hit.parts) text.append(marked ? element("mark", "", part) : part)
  said.append(text)
  if (hit.after) said.append(element("span", "context", ` ${hit.after}`))
  link.append(where, said)
  return link
}

const head = (group, setTriggerValue) => {
  const made = element("label", "head")
  const box = element("input")
  box.type = "checkbox"
  box.checked = group.selected
  box.setAttribute("aria-label", `Select the call ${group.who}, ${group.when}`)
  box.onchange = () => setTriggerValue("select", { call: group.call, selected: box.checked })
  made.append(box, element("span", "who", group.who), element("span", "when", group.when), element("span", "about", group.about))
  return made
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".hits")
  root.setAttribute("aria-label", data.label)
  const focused = parentElement.activeElement?.dataset?.id
  root.replaceChildren(
    ...data.groups.map((group) => {
      const call = element("article", group.selected ? "selected" : "")
      const top = head(group, setTriggerValue)
      top.querySelector("input").dataset.id = group.call
      call.append(top, ...group.hits.map(mention))
      return call
    }),
  )
  if (focused) root.querySelector(`input[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
}
