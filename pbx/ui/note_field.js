// A note that saves while the user types. Text not confirmed as saved is in the browser's storage after every key press.
const PAUSE_MS = 600 // after the last key
const CLICK_MS = 1500 // after a click elsewhere, so that saving doesn't interfere with it
const ANSWER_MS = 10_000 // without an answer, send it again
const RETRY_MS = 15_000 // after an answer that it wasn't saved
const LEFTOVER_MS = 3000 // nobody is typing a draft of this age in another tab
const STILL_HERE = "Your text is still here; saving is retried automatically."

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".note")
  root.note ??= setUp(root)
  const note = root.note
  note.trigger = (draft) => setTriggerValue("draft", draft)
  if (!note.listening) listen(note)
  if (note.data?.store !== data.store || note.data?.call !== data.call) open(note, data)
  else update(note, data)
  return () => {
    note.listening?.abort()
    note.listening = null
    clearTimeout(note.timer)
  }
}

function setUp(root) {
  const note = { root, field: root.querySelector("textarea"), status: root.querySelector("p"), unanswerable: new Set() }
  note.field.oninput = () => {
    note.dirty = true
    keep(note)
    showStatus(note, "Saving…")
    schedule(note, PAUSE_MS)
  }
  note.field.addEventListener("compositionstart", () => (note.composing = true))
  note.field.addEventListener("compositionend", () => (note.composing = false))
  note.field.onkeydown = (event) => event.stopPropagation() // the page's shortcuts must not react
  return note
}

function listen(note) {
  note.listening = new AbortController()
  const step = (event) => {
    if (!event.composedPath().includes(note.root)) note.quietUntil = Date.now() + CLICK_MS
  }
  for (const kind of ["pointerdown", "click", "keydown"])
    document.addEventListener(kind, step, { capture: true, signal: note.listening.signal })
  if (note.data) schedule(note, PAUSE_MS)
}

// The first call, or another than before: show its leftover draft, if there is one.
function open(note, data) {
  Object.assign(note, { data, sent: null, raw: null, base: data.saved, dirty: false, key: `${prefix(data)}${data.call}` })
  const left = read(note.key)
  if (left && left.text !== data.saved) {
    Object.assign(note, { raw: stored(note.key), base: left.base, dirty: true })
    note.field.value = left.text
    showStatus(note, "Saving…")
  } else {
    if (left) remove(note.key)
    note.field.value = data.saved
    showStatus(note, "Saved as you type")
  }
  schedule(note, PAUSE_MS)
}

// Streamlit calls this with every update; text that is being typed stays as it is.
function update(note, data) {
  note.data = data
  if (note.sent && data.answer?.number === note.sent.number) take(note, data.answer)
  if (note.dirty || data.saved === note.base) return
  show(note, data.saved)
  note.base = data.saved
}

function take(note, answer) {
  const sent = note.sent
  note.sent = null
  if (sent.key) {
    if (answer.problem) note.unanswerable.add(sent.key)
    else if (stored(sent.key) === sent.raw) remove(sent.key)
  } else if (answer.problem) {
    showStatus(note, `Not saved. ${answer.problem} ${STILL_HERE}`, true)
    return schedule(note, RETRY_MS)
  } else saved(note, sent, answer.saved)
  schedule(note, PAUSE_MS)
}

function saved(note, sent, text) {
  const more = text !== sent.text && text.startsWith(sent.text) ? text.slice(sent.text.length) : "" // added elsewhere
  if (note.field.value === sent.text) {
    if (stored(note.key) === note.raw) remove(note.key)
    Object.assign(note, { dirty: false, base: text, raw: null })
    if (more) show(note, text)
    showStatus(note, more ? "Saved, including text added elsewhere" : "Saved")
    return
  }
  if (more && !note.composing) show(note, note.field.value + (sent.text ? more : `\n${more}`))
  else if (text && text !== sent.text) return // keep the old base, so that the next save merges again
  note.base = text
  keep(note)
}

// Send one at a time: the open note first, then leftover drafts of other calls.
function send(note) {
  if (!note.listening) return
  const now = Date.now()
  if (now < (note.quietUntil ?? 0)) return schedule(note, note.quietUntil - now)
  if (note.sent && now - note.sent.at < ANSWER_MS) return schedule(note, ANSWER_MS)
  if (note.sent && !note.sent.key) showStatus(note, `Not saved yet: the app isn’t responding. ${STILL_HERE}`, true)
  note.sent = note.dirty ? fromField(note, now) : fromLeftover(note, now)
  if (!note.sent) return
  const { linkedid, text, base, number } = note.sent
  note.trigger({ linkedid, text, base, number })
  schedule(note, ANSWER_MS)
}

function fromField(note, at) {
  const text = note.field.value
  const { call, longest } = note.data
  const length = text.length > longest ? [...text].length : 0
  if (length <= longest) return { linkedid: call, text, base: note.base, number: unique(), at }
  const [most, now] = [longest, length].map((count) => count.toLocaleString("en-GB"))
  showStatus(note, `Not saved. A note holds ${most} characters; this one has ${now}. Shorten it.`, true)
  return null
}

function fromLeftover(note, at) {
  for (const key of keys(prefix(note.data))) {
    if (key === note.key || note.unanswerable.has(key)) continue
    const left = read(key)
    if (!left) remove(key)
    else if (at - left.at < LEFTOVER_MS) schedule(note, LEFTOVER_MS)
    else return { ...left, key, raw: stored(key), number: unique(), at }
  }
  return null
}

function schedule(note, wait_ms) {
  clearTimeout(note.timer)
  note.timer = setTimeout(() => send(note), wait_ms)
}

function showStatus(note, text, bad = false) {
  note.status.className = bad ? "bad" : ""
  if (note.status.textContent !== text) note.status.textContent = text
}

function show(note, text) {
  const { selectionStart, selectionEnd, scrollTop } = note.field
  note.field.value = text
  note.field.setSelectionRange(selectionStart, selectionEnd)
  note.field.scrollTop = scrollTop
}

const prefix = ({ store }) => `pbx-note ${store} `
const unique = () => `${Date.now()} ${Math.random()}`

// A draft of the same call from another tab moves to a key of its own, to be saved later.
function keep(note) {
  const other = stored(note.key)
  if (other !== null && other !== note.raw) store(`${note.key} ${unique()}`, other)
  note.raw = JSON.stringify({ linkedid: note.data.call, text: note.field.value, base: note.base, at: Date.now() })
  store(note.key, note.raw)
}

function read(key) {
  try {
    const { linkedid, text, base, at } = JSON.parse(stored(key))
    return [linkedid, text, base].every((part) => typeof part === "string") ? { linkedid, text, base, at: Number(at) || 0 } : null
  } catch {
    return null
  }
}

// The browser's storage may be disabled or full; the text is still in its field.
function attempt(run, otherwise = null) {
  try {
    return run()
  } catch {
    return otherwise
  }
}
const stored = (key) => attempt(() => localStorage.getItem(key))
const store = (key, text) => attempt(() => localStorage.setItem(key, text))
const remove = (key) => attempt(() => localStorage.removeItem(key))
const keys = (start) => attempt(() => Object.keys(localStorage).filter((key) => key.startsWith(start)), [])
