// The player: drives the page's <audio>, draws its waveform, handles keys. All texts are inserted as text, not as HTML.
let speed = 1 // stays the same from call to call while the page is open
const STEP_S = 5
const JUMP_S = 10
const REWIND_GUARD_MS = 5000
const TEXT_FIELDS = "input, textarea, select, [contenteditable=true], [role=dialog], [role=combobox], [role=listbox]"
const KEY_CONTROLS = "button, a, summary, [role=tab], [role=radio], [role=option], [data-id]"

const clock = (seconds) => {
  const whole = Math.max(Math.floor(seconds || 0), 0)
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60]
  const end = String(whole % 60).padStart(2, "0")
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${end}` : `${minutes}:${end}`
}

const lengthOf = ({ audio, data }) => (Number.isFinite(audio?.duration) ? audio.duration : data.duration_s) || 0

const positionOf = ({ audio, pending }) => pending?.at_s ?? audio?.currentTime ?? 0

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".player")
  root.player ??= setUp(root)
  root.player.save = (edit) => setTriggerValue("edit", edit)
  update(root.player, data)
  return () => tearDown(root.player)
}

// Streamlit calls this with every update. What hasn't changed must stay as it is, above all the playback position.
function update(player, data) {
  const before = player.data ?? {}
  player.data = data
  if (before.sound !== data.sound) bind(player)
  player.root.classList.toggle("silent", !data.sound)
  if (before.wave !== data.wave && data.wave) drawWave(player)
  if (before.sound !== data.sound || before.lines !== data.lines) drawTranscript(player, before.sound === data.sound)
  if (isNew(player, data.refused)) reopenEditor(player, data.refused)
  if (isNew(player, data.seek)) jump(player, data.seek)
  tick(player)
}

// Streamlit sends a request again with every update; each is carried out once.
function isNew(player, request) {
  if (!request || player.handled.has(request.number)) return false
  player.handled.add(request.number)
  return true
}

function setUp(root) {
  const find = (name) => root.querySelector(`.${name}`)
  const player = { root, wave: find("wave"), box: find("transcript"), find, following: true, lines: [], handled: new Set() }
  player.onkey = (event) => pressed(player, event)
  document.addEventListener("keydown", player.onkey)
  // Streamlit may draw the <audio> after the player, or replace it.
  player.watch = new MutationObserver(() => player.audio?.isConnected || attach(player))
  player.watch.observe(document.body, { childList: true, subtree: true })
  find("controls").onclick = (event) => act(player, event.target.closest("[data-do]")?.dataset.do)
  find("speed").onchange = (event) => {
    speed = Number(event.target.value)
    if (player.audio) player.audio.playbackRate = speed
  }
  find("speed").value = String(speed)
  addWaveListeners(player)
  addTranscriptListeners(player)
  return player
}

function tearDown(player) {
  document.removeEventListener("keydown", player.onkey)
  player.watch.disconnect()
  player.drawing = null
  unbind(player)
  delete player.root.player
}

function unbind(player) {
  player.unbind?.abort()
  player.audio?.pause()
  player.audio = null
}

function bind(player) {
  unbind(player)
  attach(player)
}

function attach(player) {
  if (!player.data.sound) return
  const audio = document.querySelector(`.st-key-${CSS.escape(player.data.sound)} audio`)
  if (!audio) return
  player.unbind?.abort()
  player.unbind = new AbortController()
  player.audio = audio
  audio.playbackRate = audio.defaultPlaybackRate = speed
  const ready = () => seekPending(player)
  const events = ["timeupdate", "play", "pause", "ended", "seeking", "seeked", "durationchange"]
  for (const name of events) audio.addEventListener(name, () => tick(player), { signal: player.unbind.signal })
  audio.addEventListener("loadedmetadata", ready, { signal: player.unbind.signal })
  audio.addEventListener("seeking", () => undoRewind(player), { signal: player.unbind.signal })
  audio.addEventListener("error", () => showStatus(player, "The audio can’t be played."), { signal: player.unbind.signal })
  ready()
}

// Seek to the position that was requested before the audio was ready.
function seekPending(player) {
  const { audio, pending } = player
  if (!pending || !audio || audio.readyState < 1) return
  player.pending = null
  player.lastSeek = { at_s: Math.min(pending.at_s, lengthOf(player)), until: performance.now() + REWIND_GUARD_MS }
  audio.currentTime = player.lastSeek.at_s
  if (pending.play) play(player)
}

// Streamlit sets a new <audio> to its start time, 0, some time after it appears. This undoes it.
function undoRewind({ audio, lastSeek }) {
  if (lastSeek?.at_s && audio.currentTime === 0 && performance.now() < lastSeek.until) audio.currentTime = lastSeek.at_s
}

function seek(player, at_s, andPlay) {
  const length = lengthOf(player)
  player.pending = { at_s: Math.max(length ? Math.min(at_s, length) : at_s, 0), play: andPlay }
  seekPending(player)
  tick(player)
}

function jump(player, { at_s, play: andPlay }) {
  follow(player, true)
  seek(player, at_s, andPlay)
  player.mark = at_s
  showMark(player)
}

const play = (player) => player.audio.play().catch(() => tick(player)) // a browser may require a click first

function act(player, name) {
  const { audio } = player
  const at_s = positionOf(player)
  if (name === "toggle" && audio) audio.paused ? play(player) : audio.pause()
  if (name === "pause") audio?.pause()
  if (name === "back") seek(player, at_s - JUMP_S)
  if (name === "forward") seek(player, at_s + JUMP_S)
  if (name === "left") seek(player, at_s - STEP_S)
  if (name === "right") seek(player, at_s + STEP_S)
  if (name === "home") seek(player, 0)
  if (name === "follow") follow(player, true)
  if (name === "link") copyLink(player, at_s)
}

const KEYS = {
  " ": "toggle",
  k: "toggle",
  j: "back",
  l: "forward",
  ArrowLeft: "left",
  ArrowRight: "right",
  Home: "home",
}

function pressed(player, event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return
  const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]
  const path = event.composedPath().filter((node) => node.matches)
  const within = (selector) => path.some((node) => node.matches(selector))
  if (!name || within(TEXT_FIELDS)) return
  if (!/^[jkl]$/i.test(event.key) && within(KEY_CONTROLS)) return
  event.preventDefault()
  act(player, name)
}

async function copyLink(player, at_s) {
  const link = new URL(location.href)
  link.searchParams.set("t", String(Math.floor(at_s * 10) / 10))
  try {
    await navigator.clipboard.writeText(link.href)
    showStatus(player, `Link to ${clock(at_s)} copied`)
  } catch {
    copyByHand(player, link.href) // browsers have no clipboard API for pages over plain HTTP from another machine
  }
}

function copyByHand(player, text) {
  const field = element("textarea")
  field.value = text
  player.root.append(field)
  field.select()
  const done = document.execCommand("copy")
  field.remove()
  showStatus(player, done ? "Link copied" : text)
}

function showStatus(player, text) {
  player.find("status").textContent = text
  clearTimeout(player.statusTimer)
  player.statusTimer = setTimeout(() => (player.find("status").textContent = ""), 6000)
}

// Update everything that moves with the audio.
function tick(player) {
  const { audio, wave, find } = player
  const at_s = positionOf(player)
  const length = lengthOf(player)
  const playing = Boolean(audio && !audio.paused && !audio.ended)
  wave.style.setProperty("--at", `${length ? Math.min((100 * at_s) / length, 100) : 0}%`)
  if (player.shownState !== `${Math.floor(at_s)} ${length} ${playing}`) {
    player.shownState = `${Math.floor(at_s)} ${length} ${playing}`
    find("at").textContent = clock(at_s)
    find("total").textContent = length ? clock(length) : "–"
    wave.setAttribute("aria-valuemax", String(Math.floor(length)))
    wave.setAttribute("aria-valuenow", String(Math.floor(at_s)))
    wave.setAttribute("aria-valuetext", `${clock(at_s)} of ${clock(length)}`)
    find("play").classList.toggle("playing", playing)
    find("play").setAttribute("aria-label", playing ? "Pause" : "Play")
  }
  markSpoken(player, at_s)
  if (playing) {
    cancelAnimationFrame(player.frame)
    player.frame = requestAnimationFrame(() => tick(player))
  }
}

function drawWave(player) {
  const { lanes, spans } = JSON.parse(player.data.wave)
  const loudest = Math.max(0.05, ...lanes.map((lane) => lane.peaks.reduce((most, peak) => Math.max(most, peak), 0)))
  const drawn = lanes.map(({ name, tone, peaks }) => {
    const lane = element("div", `lane ${tone}`)
    lane.append(shape(peaks, loudest, ""), shape(peaks, loudest, "played"), element("span", "name", name))
    return lane
  })
  player.find("lanes").replaceChildren(...drawn)
  const marks = spans.map(([from, to, tone, why]) => {
    const mark = element("span", `span ${tone}`)
    mark.style.left = `${from}%`
    mark.style.width = `${to - from}%`
    mark.title = why
    return mark
  })
  player.find("spans").replaceChildren(...marks)
}

function shape(peaks, loudest, className) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
  const half = peaks.map((peak, x) => [x, Math.max(peak / loudest, 0.02)])
  const upper = half.map(([x, height]) => `${x} ${(1 - height).toFixed(3)}`)
  const lower = half.map(([x, height]) => `${x} ${(1 + height).toFixed(3)}`).reverse()
  if (peaks.length) path.setAttribute("d", `M${[...upper, ...lower].join("L")}z`)
  svg.setAttribute("viewBox", `0 0 ${Math.max(peaks.length - 1, 1)} 2`)
  svg.setAttribute("preserveAspectRatio", "none")
  svg.setAttribute("class", className)
  svg.setAttribute("aria-hidden", "true")
  svg.append(path)
  return svg
}

function addWaveListeners(player) {
  const { wave } = player
  const hover = player.find("hover")
  const secondAt = (event) => {
    const { left, width } = wave.getBoundingClientRect()
    return (Math.min(Math.max((event.clientX - left) / width, 0), 1) || 0) * lengthOf(player)
  }
  const to = (event) => {
    follow(player, true)
    seek(player, secondAt(event))
  }
  wave.onpointerdown = (event) => {
    if (event.button) return
    wave.setPointerCapture(event.pointerId)
    to(event)
  }
  wave.onpointermove = (event) => {
    hover.hidden = false
    hover.textContent = clock(secondAt(event))
    hover.style.left = `${event.clientX - wave.getBoundingClientRect().left}px`
    if (wave.hasPointerCapture(event.pointerId)) to(event)
  }
  wave.onpointerleave = () => (hover.hidden = true)
}
