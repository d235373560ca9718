// The transcript: turns of lines of words. A click on a word plays from it. Drawn in portions: calls may have 100,000 words.
const PORTION = 150 // lines drawn at a time
const TURN_LINES = 40 // lines per turn: the browser skips the layout of a turn that is out of sight
const UNSURE = 0.5
const LINGER_S = 0.4 // a word stays highlighted in the pause after it
const OVERLAP = 24 // words to look back for others spoken at the same time

// A line is {id, at, end, speaker, text, words: [[start_s, end_s, text, probability]], why, tone, original}.
function drawTranscript(player, sameSound) {
  const before = player.lines
  player.lines = player.data.lines ? JSON.parse(player.data.lines) : []
  player.box.hidden = !player.lines.length
  orderWords(player)
  const same = before.length === player.lines.length && before.every(({ id }, at) => id === player.lines[at].id)
  if (sameSound && same && player.nodes) replaceChanged(player, before)
  else drawAll(player)
}

// The words of all lines, sorted by start, so that a binary search finds the current word in calls of any length.
function orderWords(player) {
  const order = []
  player.lines.forEach((line, index) => {
    const words = line.words.length ? line.words : [[line.at, line.end]]
    words.forEach(([start, end], word) => order.push([start, end, index, word]))
  })
  order.sort((one, other) => one[0] - other[0])
  player.order = order
  player.highlighted = []
}

function drawAll(player) {
  player.nodes = []
  player.turn = null
  player.box.replaceChildren()
  player.box.scrollTop = 0
  const drawing = (player.drawing = {})
  const portion = (from) => {
    if (player.drawing !== drawing) return
    const to = Math.min(from + PORTION, player.lines.length)
    for (let index = from; index < to; index++) addLine(player, index)
    showMark(player)
    if (to < player.lines.length) setTimeout(portion, 0, to)
  }
  portion(0)
}

// The estimated height of a turn that was never drawn, at about 80 characters a line.
const heightOf = (lines) => `auto ${lines.reduce((rows, { text }) => rows + Math.ceil((text.length || 1) / 80), 0) * 1.6}em`

function addLine(player, index) {
  const line = player.lines[index]
  const { turn } = player
  if (!turn || turn.speaker !== line.speaker || turn.lines.childElementCount >= TURN_LINES) {
    player.turn = addTurn(player, line)
  }
  const node = drawLine(player, index)
  node.tabIndex = index ? -1 : 0
  player.nodes[index] = node
  player.turn.lines.append(node)
  player.turn.all.push(line)
  player.turn.node.style.containIntrinsicHeight = heightOf(player.turn.all)
}

function addTurn(player, { speaker, at, tone }) {
  const turn = element("div", `turn ${tone}`)
  const who = element("div", "who")
  if (speaker) who.append(element("span", "name", speaker))
  const time = element("button", "clock", clock(at))
  time.type = "button"
  time.tabIndex = -1
  time.dataset.at = at
  time.setAttribute("aria-label", `Play from ${clock(at)}`)
  who.append(time)
  const lines = element("div", "lines")
  turn.append(who, lines)
  player.box.append(turn)
  return { speaker, lines, node: turn, all: [] }
}

function drawLine(player, index) {
  const line = player.lines[index]
  const node = element("div", "line")
  node.dataset.line = index
  const said = element("span", "said")
  said.dir = "auto"
  node.spans = fillWords(said, line)
  node.append(said)
  if (line.why) {
    node.classList.add("doubted")
    node.append(element("span", "why", line.why))
  }
  if (line.original !== null) {
    const badge = element("span", "edited", "edited")
    badge.title = `The model’s original text: ${line.original}`
    node.append(badge)
  }
  if (line.text) node.append(pencil(line))
  return node
}

// Insert the line's text; each word found in it becomes clickable.
function fillWords(said, line) {
  let from = 0
  const spans = line.words.map(([, , text, probability], word) => {
    const found = line.text.indexOf(text, from)
    if (found < 0) return null
    if (found > from) said.append(line.text.slice(from, found))
    from = found + text.length
    const span = element("span", "word", text)
    span.dataset.word = word
    if (probability < UNSURE) {
      span.classList.add("unsure")
      span.title = `The model is only ${Math.round(probability * 100)}% sure of this word`
    }
    said.append(span)
    return span
  })
  said.append(line.text.slice(from))
  return line.words.length ? spans : [said]
}

function pencil(line) {
  const button = element("button", "pencil", "Edit")
  button.type = "button"
  button.tabIndex = -1
  button.setAttribute("aria-label", `Edit what was said at ${clock(line.at)}`)
  return button
}

function replaceChanged(player, before) {
  player.nodes.forEach((node, index) => {
    if (JSON.stringify(before[index]) === JSON.stringify(player.lines[index])) return
    const fresh = drawLine(player, index)
    fresh.tabIndex = node.tabIndex
    const focused = node.contains(player.root.getRootNode().activeElement)
    node.replaceWith(fresh)
    player.nodes[index] = fresh
    if (focused) fresh.focus({ preventScroll: true })
  })
}

function markSpoken(player, at_s) {
  const { order } = player
  let [low, high] = [0, order.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (order[middle][0] <= at_s) low = middle + 1
    else high = middle
  }
  const near = order.slice(Math.max(low - OVERLAP, 0), low)
  let now = near.filter(([, end]) => end > at_s)
  if (!now.length) now = near.slice(-1).filter(([, end]) => at_s - end < LINGER_S)
  const highlighted = now.map(([, , line, word]) => player.nodes[line]?.spans[word]).filter(Boolean)
  const last = highlighted.at(-1)
  if (highlighted.length === player.highlighted.length && highlighted.every((span, index) => span === player.highlighted[index])) return
  for (const span of player.highlighted) span.classList.remove("spoken")
  for (const span of highlighted) span.classList.add("spoken")
  player.highlighted = highlighted
  if (last && player.following && !player.root.querySelector(".editor")) bringIntoView(player, last)
}

function bringIntoView(player, node) {
  if (player.held && player.audio?.paused) return
  player.held = null
  const [box, at] = [player.box.getBoundingClientRect(), node.getBoundingClientRect()]
  if (at.top > box.top + box.height * 0.15 && at.bottom < box.top + box.height * 0.7) return
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches
  const away = at.top - box.top - box.height * 0.3
  if (still || Math.abs(away) > 2 * box.height) centre(player, node)
  else player.box.scrollBy({ top: away, behavior: "smooth" })
}

// Repeats, because a turn that was never visible only gets its real height once it is near.
function centre(player, node, times = 8) {
  const [box, at] = [player.box.getBoundingClientRect(), node.getBoundingClientRect()]
  const away = at.top - box.top - box.height * 0.3
  if (Math.abs(away) < 4) return
  player.box.scrollTop += away
  if (times > 1) requestAnimationFrame(() => centre(player, node, times - 1))
}

function follow(player, on) {
  player.following = on
  player.find("follow").hidden = on || !player.lines.length
  if (on && player.highlighted.length) bringIntoView(player, player.highlighted.at(-1))
}

// Scroll to the line at a link's second and mark it, as soon as it is drawn. Links cut seconds to tenths.
function showMark(player) {
  if (player.mark === undefined || !player.lines.length) return
  let index = player.lines.findLastIndex((line) => line.at <= player.mark + 0.1)
  index = Math.max(index, 0)
  const node = player.nodes[index]
  if (!node) return
  player.mark = undefined
  player.box.querySelector(".marked")?.classList.remove("marked")
  node.classList.add("marked")
  rove(player, index)
  hold(player, node)
}

// Keep a line visible while the lines around it get their real heights, until the reader scrolls, clicks or types.
function hold(player, node) {
  const until = performance.now() + 2000
  player.held = node
  const step = () => {
    if (player.held !== node || !node.isConnected) return
    centre(player, node, 1)
    if (performance.now() < until || player.nodes.length < player.lines.length) requestAnimationFrame(step)
    else player.held = null
  }
  step()
}

function addTranscriptListeners(player) {
  const { box } = player
  box.onclick = (event) => clicked(player, event.target)
  box.onkeydown = (event) => {
    player.held = null
    pressedInLine(player, event)
  }
  box.onfocusin = (event) => {
    const line = event.target.closest(".line")
    if (line) rove(player, Number(line.dataset.line))
  }
  const scrolled = () => {
    player.held = null
    if (!player.following || !player.audio || player.audio.paused) return
    follow(player, false)
    box.scrollTo({ top: box.scrollTop, behavior: "instant" }) // stop the smooth scrolling
  }
  box.addEventListener("wheel", scrolled, { passive: true })
  box.addEventListener("touchmove", scrolled, { passive: true })
  box.onpointerdown = (event) => {
    player.held = null
    if (event.target === box && event.offsetX > box.clientWidth) scrolled() // the scroll bar
  }
}

function clicked(player, target) {
  const line = player.lines[target.closest(".line")?.dataset.line]
  if (target.closest(".editor")) return
  if (target.closest(".pencil")) return edit(player, target.closest(".line"))
  if (!(player.root.getRootNode().getSelection?.() ?? getSelection()).isCollapsed) return // the reader is selecting text
  const time = target.closest(".clock")
  const word = target.closest(".word")
  if (time) playFrom(player, Number(time.dataset.at))
  else if (word && line) playFrom(player, line.words[word.dataset.word][0])
  else if (line && (target.closest(".said, .why"))) playFrom(player, line.at)
}

function playFrom(player, at_s) {
  if (!player.data.sound) return
  follow(player, true)
  seek(player, at_s, true)
}

// Tab reaches one line of the transcript; the arrow keys move from line to line.
function rove(player, index) {
  const before = player.box.querySelector('.line[tabindex="0"]')
  if (before) before.tabIndex = -1
  if (player.nodes[index]) player.nodes[index].tabIndex = 0
}

function pressedInLine(player, event) {
  const node = event.target.closest(".line")
  if (!node || event.target !== node || event.ctrlKey || event.metaKey || event.altKey) return
  const index = Number(node.dataset.line)
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
  if (step) player.nodes[index + step]?.focus()
  else if (event.key === "Enter") playFrom(player, player.lines[index].at)
  else if (event.key === "F2" && player.lines[index].text) edit(player, node)
  else return
  if (step) follow(player, !player.audio || player.audio.paused)
  event.preventDefault()
}

function edit(player, node, text) {
  closeEditor(player)
  const line = player.lines[node.dataset.line]
  const form = element("form", "editor")
  const field = element("textarea")
  field.value = text ?? line.text
  field.dir = "auto"
  field.rows = Math.min(Math.max(Math.ceil(field.value.length / 60), 2), 8)
  field.setAttribute("aria-label", `What was said at ${clock(line.at)}`)
  const row = element("div", "row")
  const add = (title, className, run) => {
    const button = element("button", className, title)
    button.type = run ? "button" : "submit"
    button.onclick = run
    row.append(button)
  }
  add("Save", "primary")
  add("Cancel", "", () => closeEditor(player, true))
  if (line.original !== null) add("Restore original", "", () => send(player, form, line, line.original))
  const problem = element("span", "problem")
  problem.setAttribute("role", "alert")
  row.append(problem)
  form.append(field, row)
  form.onsubmit = (event) => {
    event.preventDefault()
    send(player, form, line, field.value.trim())
  }
  form.onkeydown = (event) => {
    event.stopPropagation() // the page's shortcuts must not react to typing in here
    if (event.key === "Escape") closeEditor(player, true)
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit()
  }
  node.classList.add("editing")
  node.append(form)
  field.focus()
}

function send(player, form, line, text) {
  if (text === line.text) return closeEditor(player, true)
  if (!text) return void (form.querySelector(".problem").textContent = "A line can’t be empty.")
  for (const part of form.querySelectorAll("button, textarea")) part.disabled = true
  form.querySelector(".problem").textContent = "Saving…"
  player.save({ id: line.id, text })
}

// An edit could not be saved: open the editor again with what was typed.
function reopenEditor(player, { id, text, why }) {
  const index = player.lines.findIndex((line) => line.id === id)
  if (!player.nodes[index]) return
  edit(player, player.nodes[index], text)
  player.box.querySelector(".problem").textContent = why
}

function closeEditor(player, andFocus) {
  const form = player.box.querySelector(".editor")
  const line = form?.closest(".line")
  form?.remove()
  line?.classList.remove("editing")
  if (andFocus) line?.focus({ preventScroll: true })
}
