// The phone page: shows one phone's conversation with the service and the traffic behind it.
// It talks only to the sandbox's own API (/sandbox/...). Message bodies reach the page through
// textContent alone, never as markup.

const DEFAULT_PHONE = "+15005550123";
const PHONES_KEY = "parley.phones";
const CURRENT_KEY = "parley.phone";
const WIRE_KEY = "parley.wire";
const WIRE_ROWS = 200; // Older rows are dropped, so a load test cannot fill the tab's memory.
const STAMP_GAP_MS = 15 * 60_000; // A pause this long earns a new time stamp in the thread.
const GROUP_GAP_MS = 60_000; // Messages of one side closer than this are drawn as one group.
const RETRY_MS = 2_000; // EventSource gives up for good on an HTTP error; then we open a new one.
const NEAR_END_PX = 120;
const DRAWN_MESSAGES = 500; // The newest of a thread; the rest stay with the sandbox.
const LOOK_SLACK_MS = 3_000; // What a look at the instance, and making a new one, may take.
const PATIENCE_MS = 3_000; // A text that long without a reply says so.
const LISTED_PHONES = 60; // Under load, thousands of phones may text; one's own always stay listed.

const $ = (id) => document.getElementById(id);
const phonesDocked = matchMedia("(min-width: 760px)");
const wireDocked = matchMedia("(min-width: 1100px)");

const state = {
  ourNumber: null,
  goneAt: "", // when the service's last instance was deleted, while it has none
  service: { texts: [], also: [], looks_every_s: null }, // what its operator tells of it
  loaded: false,
  phone: DEFAULT_PHONE,
  phones: [], // the reader's own, in the order they were added
  threads: new Map(), // phone number -> messages, oldest first
  unread: new Set(),
  drafts: new Map(),
  drawer: null, // the panel that lies over the page: "phones", "wire" or null
  wireOpen: true, // whether the wire panel is shown where it has room beside the thread
};

// ---------------------------------------------------------------- words and numbers

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function showNumber(number) {
  const american = /^\+1(\d{3})(\d{3})(\d{4})$/.exec(number);
  if (american) return `+1 ${american[1]} ${american[2]} ${american[3]}`;
  return number.replace(/^(\+\d{2})(\d{3,4})(\d+)$/, "$1 $2 $3");
}

function showDuration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const dayMonth = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "long" });

function startOfDay(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

function showDay(date) {
  const days = Math.round((startOfDay(new Date()) - startOfDay(date)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days > 1 && days < 7 ? weekday.format(date) : dayMonth.format(date);
}

// Source of the alphabet: 3GPP TS 23.038. Extension characters take two septets.
const GSM_BASIC = new Set(
  "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà",
);
const GSM_EXTENDED = new Set("^{}\\[~]|€\f");

/** Count the SMS segments of a text: {units, parts, room}; room is what the last part still holds. */
function countSegments(text) {
  const characters = Array.from(text);
  const gsm = characters.every((c) => GSM_BASIC.has(c) || GSM_EXTENDED.has(c));
  const sizes = characters.map((c) => (gsm ? (GSM_EXTENDED.has(c) ? 2 : 1) : c.length));
  const units = sizes.reduce((sum, size) => sum + size, 0);
  const [single, joined] = gsm ? [160, 153] : [70, 67];
  if (units <= single) return { parts: 1, room: single - units, gsm };
  let parts = 1;
  let used = 0;
  for (const size of sizes) {
    // A two-unit character is never cut in half: it moves to the next part.
    if (used + size > joined) {
      parts += 1;
      used = 0;
    }
    used += size;
  }
  return { parts, room: joined - used, gsm };
}

// ---------------------------------------------------------------- what the browser remembers

function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null; // Storage may be switched off, or hold something else.
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // The page works without; the choice then lasts until the tab is closed.
  }
}

function parseNumber(text) {
  const number = text.replace(/[\s().-]/g, "").replace(/^00/, "+");
  return /^\+[1-9]\d{6,14}$/.test(number) ? number : null;
}

// ---------------------------------------------------------------- the conversation

function messagesOf(phone) {
  return state.threads.get(phone) ?? [];
}

/** The line under a bubble, in words. */
function describe(message) {
  if (message.direction === "reply") {
    return message.after_ms === null ? "" : `after ${showDuration(message.after_ms)}`;
  }
  if (message.state === "sending") return "sending…";
  if (message.state === "failed") return `Not delivered: ${message.detail || "no reason was given"}`;
  const took = /in ([\d.]+) ms/.exec(message.detail);
  return took ? `accepted in ${showDuration(Number(took[1]))}` : "accepted";
}

/** Why a text has no reply, as far as the sandbox can know; "" where there is nothing to say. */
function explainSilence(message) {
  if (message.direction !== "text" || message.state !== "accepted") return "";
  if (message.network_answer) return "";
  const messages = messagesOf(message.theirs);
  const later = messages.slice(messages.indexOf(message) + 1);
  if (later.some((one) => one.direction === "reply")) return message.warning;
  if (message.opted_out) {
    return "This phone has opted out, so Twilio takes no reply to it (21610). Text START to opt in again.";
  }
  if (message.refused) return `The reply was refused: ${message.refused}`;
  if (message.warning) return message.warning;
  if (new Date() - new Date(message.at) < PATIENCE_MS) return "";
  if (later.some((one) => one.direction === "text")) return "No reply.";
  return (
    "No reply yet. The service has taken the text and sent nothing: no route matched, its handler " +
    "answers nothing or is still at work, or the reply failed and “parley dead list” has it."
  );
}

/** Say below each text why it has no reply, or no longer that it has none. */
function drawSilences() {
  for (const message of messagesOf(state.phone).slice(-DRAWN_MESSAGES)) {
    if (message.direction !== "text") continue;
    const node = $("thread").querySelector(`[data-sid="${CSS.escape(message.sid)}"]`);
    if (node) fillSilence(node, message);
  }
}

function fillSilence(node, message) {
  const said = explainSilence(message);
  let line = node.querySelector(".silence");
  if (!said) {
    line?.remove();
    return;
  }
  if (!line) {
    line = make("p", "silence");
    node.append(line);
  }
  if (line.textContent === said) return;
  line.textContent = said;
  followEnd();
}

/** Twilio's own answer, which no service sent and no log of ours has. */
function makeNetworkAnswer(message) {
  const node = make("article", "message");
  node.dataset.direction = "network";
  node.append(
    make("span", "hidden-label", "Twilio: "),
    make("p", "body", message.network_answer),
    make("p", "meta", "Twilio's own answer: the service leaves this word to it."),
  );
  return node;
}

function makePicture(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return make("span", "file", address);
  }
  if (!["https:", "http:"].includes(url.protocol)) return make("span", "file", address.slice(0, 80));
  const link = make("a", "picture");
  link.href = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  const showName = () => {
    link.className = "file";
    link.replaceChildren(
      make("span", "file-name", url.pathname.split("/").pop() || url.host),
      make("span", "file-host", url.host),
    );
    followEnd();
  };
  // The page's policy loads pictures over https only; others stay links.
  if (url.protocol === "http:") {
    showName();
    return link;
  }
  const image = make("img");
  image.alt = `Picture from ${url.host}, opens in a new tab`;
  image.loading = "lazy";
  image.referrerPolicy = "no-referrer";
  image.addEventListener("error", showName, { once: true });
  image.addEventListener("load", followEnd);
  image.src = url.href;
  link.append(image);
  return link;
}

function makeMessage(message) {
  const node = make("article", "message");
  node.dataset.sid = message.sid;
  node.append(make("span", "hidden-label", message.direction === "text" ? "You: " : "Parley: "));
  if (message.media.length) {
    const media = make("div", "media");
    media.append(...message.media.map(makePicture));
    node.append(media);
  }
  const body = make("p", "body", message.body);
  body.dir = "auto";
  body.hidden = message.body === "" && message.media.length > 0;
  const meta = make("p", "meta");
  meta.append(make("time", "", clock.format(new Date(message.at))), make("span", "fate", " "));
  node.append(body, meta);
  fillMessage(node, message);
  return node;
}

/** Write into `node` what can change in a message after it was first shown. */
function fillMessage(node, message) {
  node.dataset.direction = message.direction;
  node.dataset.state = message.state;
  const time = node.querySelector("time");
  time.dateTime = message.at;
  time.title = new Date(message.at).toLocaleString();
  const fate = node.querySelector(".fate");
  fate.title = message.detail;
  fillSilence(node, message);
  node.querySelector(".retry")?.remove();
  if (message.state !== "failed") {
    // The text node is kept: a log reads out added nodes, and "accepted" is not worth a voice.
    fate.firstChild.data = describe(message);
    return;
  }
  fate.textContent = describe(message);
  const retry = make("button", "retry", "Send again");
  retry.type = "button";
  retry.addEventListener("click", () => send(message.body, message.media, message.theirs));
  node.querySelector(".meta").append(retry);
}

function makeStamp(message, previous) {
  const at = new Date(message.at);
  const sameDay = previous && startOfDay(new Date(previous.at)) === startOfDay(at);
  if (sameDay && at - new Date(previous.at) < STAMP_GAP_MS) return null;
  const stamp = make("p", "stamp");
  if (sameDay) stamp.append(clock.format(at));
  else stamp.append(make("strong", "", showDay(at)), ` ${clock.format(at)}`);
  return stamp;
}

function appendMessage(message, previous, fresh) {
  const stamp = makeStamp(message, previous);
  const node = makeMessage(message);
  const grouped =
    previous?.direction === message.direction &&
    !previous.network_answer &&
    !stamp &&
    new Date(message.at) - new Date(previous.at) < GROUP_GAP_MS;
  if (grouped) {
    node.classList.add("grouped");
    $("thread").lastElementChild?.classList.add("continued");
  }
  if (fresh) node.classList.add("fresh");
  if (stamp) $("thread").append(stamp);
  $("thread").append(node);
  if (message.network_answer) $("thread").append(makeNetworkAnswer(message));
}

function drawThread() {
  const thread = $("thread");
  // Off while the whole conversation is drawn: only new messages are to be read out.
  thread.setAttribute("aria-live", "off");
  thread.replaceChildren();
  const messages = messagesOf(state.phone);
  if (messages.length > DRAWN_MESSAGES) {
    thread.append(make("p", "stamp", `The newest ${DRAWN_MESSAGES} of ${messages.length} messages`));
  }
  let previous;
  for (const message of messages.slice(-DRAWN_MESSAGES)) {
    appendMessage(message, previous, false);
    previous = message;
  }
  drawEmpty();
  followEnd();
  setTimeout(drawSilences, PATIENCE_MS);
  requestAnimationFrame(() => thread.setAttribute("aria-live", "polite"));
}

function drawEmpty() {
  const empty = state.loaded && messagesOf(state.phone).length === 0;
  $("empty").hidden = !empty;
  $("thread").hidden = empty || !state.loaded;
  $("examples").hidden = state.ourNumber === null;
  const { texts, also } = state.service;
  $("empty-title").textContent = state.ourNumber ? "Start the conversation" : "Nobody to text yet";
  $("empty-hint").textContent = state.ourNumber
    ? texts.length
      ? "Write a text below, or send one of these."
      : "Write a text below."
    : state.goneAt
      ? explainGone()
      : "Start the service with this sandbox as its connector. It will take a number here, and this page will be ready by itself.";
  const buttons = texts.map((text) => {
    const button = make("button", "", text);
    button.type = "button";
    button.dataset.text = text;
    return button;
  });
  $("examples").replaceChildren(...buttons);
  $("also").hidden = state.ourNumber === null || also.length === 0;
  const lead = make("span", "", texts.length ? "It also takes" : "It takes");
  const ways = make("ul");
  ways.append(...also.map((one) => make("li", "", one)));
  $("also").replaceChildren(lead, ways);
}

/** What goes on while the service's instance is deleted, and until when. */
function explainGone() {
  const at = clockSeconds.format(new Date(state.goneAt));
  const every = state.service.looks_every_s;
  const end = nextLook();
  const until = end
    ? `by ${clockSeconds.format(end)} at the latest (it looks every ${every} s)`
    : "at its next look (CONNECTOR_WATCH_S)";
  const late = end && new Date() - end > LOOK_SLACK_MS;
  const then = late ? "It should have by now: its log says why not." : "This page goes on by itself.";
  return (
    `The service's instance was deleted at ${at}. Twilio has nowhere to bring texts until the ` +
    `service notices and makes a new one, ${until}. ${then}`
  );
}

/** When the service has looked at its deleted instance, at the latest; null where nobody said. */
function nextLook() {
  const every = state.service.looks_every_s;
  return every && state.goneAt ? new Date(Date.parse(state.goneAt) + every * 1000) : null;
}

/** Put a new or changed message where it belongs. Returns whether it is new. */
function keep(message) {
  const messages = messagesOf(message.theirs);
  state.threads.set(message.theirs, messages);
  const known = messages.findIndex((one) => one.sid === message.sid);
  if (known >= 0) {
    messages[known] = message;
    return false;
  }
  let place = messages.length;
  while (place > 0 && messages[place - 1].at > message.at) place -= 1;
  messages.splice(place, 0, message);
  return true;
}

function showMessage(message) {
  const isNew = keep(message);
  drawPhonesSoon();
  if (message.theirs !== state.phone) {
    if (isNew && message.direction === "reply") state.unread.add(message.theirs);
    return;
  }
  const messages = messagesOf(state.phone);
  const node = $("thread").querySelector(`[data-sid="${CSS.escape(message.sid)}"]`);
  if (isNew && message.direction === "text") setTimeout(drawSilences, PATIENCE_MS + 50);
  if (isNew && message.direction === "reply") drawSilences();
  if (!isNew && node) {
    fillMessage(node, message);
  } else if (messages.at(-1) === message) {
    drawEmpty();
    appendMessage(message, messages.at(-2), true);
    if ($("thread").childElementCount > 2 * DRAWN_MESSAGES) drawThread();
  } else {
    drawThread();
  }
  if (following || (isNew && message.direction === "text")) scrollToEndSoon();
  else if (isNew) showJump("New reply");
}

// ---------------------------------------------------------------- staying at the end

function isNearEnd() {
  const box = $("scroll");
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
}

let following = true; // Whether the reader is at the end and wants to stay there.

function scrollToEnd() {
  following = true;
  $("scroll").scrollTop = $("scroll").scrollHeight;
  $("jump").hidden = true;
}

let scrollDue = false;

/** Scroll before the next frame: once, however many messages come until then. */
function scrollToEndSoon() {
  following = true;
  if (scrollDue) return;
  scrollDue = true;
  requestAnimationFrame(() => {
    scrollDue = false;
    followEnd();
  });
}

function followEnd() {
  if (following) scrollToEnd();
}

function showJump(label) {
  $("jump-label").textContent = label;
  $("jump").hidden = false;
}

let shape = ""; // The scrolled box's measures when it was last scrolled.

$("scroll").addEventListener("scroll", () => {
  const { scrollHeight, clientHeight } = $("scroll");
  const now = `${scrollHeight} ${clientHeight}`;
  const moved = shape !== now; // The page has moved, not the reader: a long text came or was sent.
  shape = now;
  if (moved && following) {
    followEnd();
    return;
  }
  following = isNearEnd();
  if (following) $("jump").hidden = true;
  else if ($("jump").hidden) showJump("Latest");
});
$("jump").addEventListener("click", () => {
  scrollToEnd();
  $("composer").focus();
});
const measured = new ResizeObserver(followEnd);
measured.observe($("scroll"));
measured.observe($("thread"));

// ---------------------------------------------------------------- phones

function addPhone(number) {
  if (state.phones.includes(number)) return;
  state.phones.push(number);
  remember(PHONES_KEY, state.phones);
}

function choosePhone(number) {
  addPhone(number);
  state.drafts.set(state.phone, $("composer").value);
  state.phone = number;
  following = true;
  state.unread.delete(number);
  remember(CURRENT_KEY, number);
  $("composer").value = state.drafts.get(number) ?? "";
  complain("");
  drawPhones();
  drawThread();
  drawComposer();
}

function makePhoneRow(number) {
  const last = messagesOf(number).at(-1);
  const row = make("button", "phone");
  row.type = "button";
  if (number === state.phone) row.setAttribute("aria-current", "true");
  const badge = make("span", "badge", number.slice(-2));
  badge.setAttribute("aria-hidden", "true");
  const lines = make("span", "phone-lines");
  const preview = last ? last.body || "Picture" : "No messages yet";
  lines.append(
    make("span", "phone-number", showNumber(number)),
    make("span", "preview", last?.direction === "text" ? `You: ${preview}` : preview),
  );
  row.append(badge, lines);
  if (state.unread.has(number)) {
    const dot = make("span", "unread-dot");
    dot.append(make("span", "hidden-label", "new reply"));
    row.append(dot);
  } else if (last) {
    const at = new Date(last.at);
    const today = startOfDay(at) === startOfDay(new Date());
    row.append(make("time", "when", today ? clock.format(at) : showDay(at).slice(0, 9)));
  }
  row.dataset.phone = number;
  return row;
}

/** One's own phones, then others that texted, those heard from last first. */
function listedPhones() {
  const others = [...state.threads.keys()].filter((number) => !state.phones.includes(number));
  const lastAt = (number) => messagesOf(number).at(-1)?.at ?? "";
  others.sort((a, b) => (lastAt(a) < lastAt(b) ? 1 : -1));
  return [...state.phones, ...others.slice(0, LISTED_PHONES)];
}

let phonesDue = false;

/** Draw the phones once before the next frame, however many messages come until then. */
function drawPhonesSoon() {
  if (phonesDue) return;
  phonesDue = true;
  requestAnimationFrame(drawPhones);
}

function drawPhones() {
  phonesDue = false;
  const list = $("phone-list");
  const focused = list.contains(document.activeElement) && document.activeElement.dataset.phone;
  list.replaceChildren(
    ...listedPhones().map((number) => {
      const item = make("li");
      item.append(makePhoneRow(number));
      return item;
    }),
  );
  if (focused) list.querySelector(`[data-phone="${CSS.escape(focused)}"]`)?.focus();
  $("my-number").textContent = showNumber(state.phone);
  $("other-unread").hidden = state.unread.size === 0;
}

$("phone-list").addEventListener("click", (event) => {
  const row = event.target.closest("[data-phone]");
  if (!row) return;
  choosePhone(row.dataset.phone);
  if (state.drawer) openDrawer(null);
});
$("add-phone").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = $("new-number");
  const number = parseNumber(field.value);
  field.setAttribute("aria-invalid", String(number === null));
  $("new-number-error").textContent = number
    ? ""
    : "Write it with + and the country code, like +1 500 555 0124.";
  if (!number) {
    field.focus();
    return;
  }
  field.value = "";
  choosePhone(number);
  openDrawer(null);
  $("composer").focus();
});

// ---------------------------------------------------------------- writing a text

function complain(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = sentence === "";
}

function drawComposer() {
  const ready = state.ourNumber !== null;
  const gone = state.goneAt !== "";
  const field = $("composer");
  field.disabled = !ready;
  $("attach").disabled = !ready;
  $("media").disabled = !ready;
  field.placeholder = ready ? "Text message" : "Not connected";
  // The empty page says it in its middle.
  const told = gone && messagesOf(state.phone).length === 0;
  $("notice").hidden = ready || !state.loaded || told;
  $("notice").textContent = ready
    ? ""
    : gone
      ? explainGone()
      : "No service has taken a number yet, so texts have nowhere to go.";
  $("our-number").textContent = ready
    ? showNumber(state.ourNumber)
    : gone
      ? "its instance is deleted"
      : "no number yet";
  $("send").disabled = !ready || (field.value.trim() === "" && $("media").value.trim() === "");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
  $("segments").textContent = describeSegments(field.value);
}

function describeSegments(text) {
  if (text === "") return "";
  const { parts, room, gsm } = countSegments(text);
  const count = `${parts} ${parts === 1 ? "segment" : "segments"}, ${room} left`;
  return gsm ? count : `${count}, Unicode`;
}

async function send(body, media, from) {
  complain("");
  try {
    const response = await fetch("/sandbox/texts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ from, body, ...(media.length ? { media } : {}) }),
    });
    if (!response.ok) throw new Error(`the sandbox answered ${response.status}`);
    const { sid } = await response.json();
    // Events carry the message; without them (while reconnecting) we ask for it.
    if (!messagesOf(from).some((one) => one.sid === sid)) await loadThreads();
  } catch (error) {
    const reason = error instanceof TypeError ? "the sandbox cannot be reached" : error.message;
    complain(`Not sent: ${reason}. Your text is still here.`);
    putBack(body, media, from);
  }
}

/** Return an unsent text to its phone's composer, before whatever was written since. */
function putBack(body, media, phone) {
  const join = (later) => [body, later].filter(Boolean).join("\n");
  if (phone !== state.phone) {
    state.drafts.set(phone, join(state.drafts.get(phone)));
    return;
  }
  $("composer").value = join($("composer").value);
  if (media.length) {
    $("media").value = media[0];
    showMediaRow(true);
  }
  drawComposer();
}

function submitText() {
  const body = $("composer").value.trim();
  const address = $("media").value.trim();
  if ($("composer").disabled || (body === "" && address === "")) return;
  if (address !== "" && !/^https:\/\/[^\s/]+/.test(address)) {
    complain("A picture's address begins with https://");
    $("media").focus();
    return;
  }
  $("composer").value = "";
  $("media").value = "";
  showMediaRow(false);
  drawComposer();
  $("composer").focus();
  send(body, address ? [address] : [], state.phone);
}

function showMediaRow(open) {
  $("media-row").hidden = !open;
  $("attach").setAttribute("aria-expanded", String(open));
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  submitText();
});
$("composer").addEventListener("input", drawComposer);
$("media").addEventListener("input", drawComposer);
$("composer").addEventListener("keydown", (event) => {
  // isComposing: Enter that ends an input method's word is not meant for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submitText();
});
$("attach").addEventListener("click", () => {
  const open = $("media-row").hidden;
  showMediaRow(open);
  if (!open) $("media").value = "";
  $(open ? "media" : "composer").focus();
  drawComposer();
});
$("examples").addEventListener("click", (event) => {
  const text = event.target.dataset.text;
  if (!text) return;
  $("composer").focus();
  send(text, [], state.phone);
});

// ---------------------------------------------------------------- the wire

let wireDue = []; // Entries since the last frame, oldest first.

/** Show what crossed before this page was opened; rows that came meanwhile stay. */
async function loadWire() {
  const response = await fetch("/sandbox/wire", { cache: "no-store" });
  if (!response.ok) throw new Error(`the sandbox answered ${response.status}`);
  const { run, rows } = await response.json();
  if (wireRun !== null && wireRun !== run) {
    $("wire-list").replaceChildren();
    clearedWire = 0;
  }
  wireRun = run;
  wireDue = [...rows, ...wireDue].slice(-WIRE_ROWS);
  drawWireDue();
}

let wireRun = null; // The run of the sandbox whose rows are shown; another counts from one again.
let clearedWire = 0; // Rows up to this one were cleared.

function showWire(entry) {
  if (wireDue.length === 0) requestAnimationFrame(drawWireDue);
  wireDue.push(entry);
  if (wireDue.length > WIRE_ROWS) wireDue.shift();
}

function drawWireDue() {
  const list = $("wire-list");
  for (const entry of wireDue) placeWireRow(list, entry);
  while (list.childElementCount > WIRE_ROWS) list.lastElementChild.remove();
  wireDue = [];
  drawWire();
}

/** Put a row before the first older one; one that is there already, or was cleared, is left. */
function placeWireRow(list, entry) {
  if (entry.id <= clearedWire) return;
  let next = list.firstElementChild;
  while (next && Number(next.dataset.id) > entry.id) next = next.nextElementSibling;
  if (next?.dataset.id !== String(entry.id)) list.insertBefore(makeWireRow(entry), next);
}

function makeWireRow(entry) {
  const ok = entry.status >= 200 && entry.status < 400;
  const item = make("li");
  item.dataset.id = entry.id;
  const fold = make("details", "wire-row");
  const row = make("summary");
  fold.append(row);
  item.append(fold);
  fold.addEventListener("toggle", () => {
    if (fold.open && !fold.querySelector(".wire-exchange")) openExchange(fold, entry);
  });
  fold.dataset.direction = entry.direction;
  fold.dataset.ok = String(ok);
  const [method, ...path] = entry.summary.split(" ");
  const status = make("span", "wire-status", entry.status ? String(entry.status) : "no answer");
  const summary = make("span", "wire-summary");
  summary.append(make("b", "", method), " ");
  for (const part of path.join(" ").split(/(?<=.)(?=\/)/)) summary.append(part, make("wbr"));
  const facts = make("span", "wire-facts");
  const way = entry.direction === "callback" ? "→ to the service" : "← from the service";
  facts.append(
    make("span", "wire-way", way),
    make("span", "", showDuration(entry.ms)),
    make("time", "", clockSeconds.format(new Date(entry.at))),
  );
  row.append(summary, status, facts);
  if (entry.note) row.append(make("span", "wire-note", entry.note));
  return item;
}

/** Fetch what a request and its answer said, and show it below the row. */
async function openExchange(fold, entry) {
  const box = make("div", "wire-exchange");
  fold.append(box);
  try {
    const response = await fetch(`/sandbox/wire/${entry.id}`, { cache: "no-store" });
    const found = await response.json();
    if (!response.ok) throw new Error(found.message);
    const answered = entry.status ? `Answer ${entry.status}` : "No answer";
    box.append(...makePart("Request", found.request));
    if (entry.status) box.append(...makePart(answered, found.answer));
    else box.append(make("h3", "", answered));
  } catch (error) {
    const lost = error instanceof TypeError ? "The sandbox does not answer." : error.message;
    box.append(make("p", "wire-lost", lost));
    fold.addEventListener("toggle", () => fold.open || box.remove(), { once: true });
  }
}

function makePart(title, { headers, body, length }) {
  const list = make("dl", "wire-headers");
  for (const [name, value] of headers) {
    const line = make("div");
    line.append(make("dt", "", name), make("dd", "", value));
    list.append(line);
  }
  const type = headers.find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";
  const nodes = [make("h3", "", title), list];
  if (body) nodes.push(make("pre", "wire-body", readable(body, type)));
  const bytes = new TextEncoder().encode(body).length;
  if (length > bytes + 64) nodes.push(make("p", "wire-lost", `The first part of ${length} bytes.`));
  return nodes;
}

/** Lay a body out for reading: JSON indented, a form one field a line, anything else as it is. */
function readable(body, type) {
  if (type.includes("json")) {
    try {
      return JSON.stringify(JSON.parse(body), null, 2);
    } catch {
      return body; // It was cut.
    }
  }
  if (!type.includes("x-www-form-urlencoded")) return body;
  return [...new URLSearchParams(body)].map(([name, value]) => `${name} = ${value}`).join("\n");
}

function drawWire() {
  const empty = $("wire-list").childElementCount === 0;
  $("wire-list").hidden = empty;
  $("wire-clear").hidden = empty;
  $("wire-empty").hidden = !empty;
}

$("wire-clear").addEventListener("click", () => {
  clearedWire = Number($("wire-list").firstElementChild?.dataset.id ?? 0);
  $("wire-list").replaceChildren();
  drawWire();
  $("wire-list").closest(".wire").querySelector("[data-close]").focus();
});

// ---------------------------------------------------------------- panels

/** Show the panels as the window's width and the reader's choice want them. */
function drawPanels() {
  if (state.drawer === "phones" && phonesDocked.matches) state.drawer = null;
  if (state.drawer === "wire" && wireDocked.matches) state.drawer = null;
  const phonesShown = phonesDocked.matches || state.drawer === "phones";
  const wireShown = wireDocked.matches ? state.wireOpen : state.drawer === "wire";
  $("phones").dataset.open = String(phonesShown);
  $("wire").dataset.open = String(wireShown);
  $("phones-button").setAttribute("aria-expanded", String(phonesShown));
  $("wire-button").setAttribute("aria-expanded", String(wireShown));
  $("shade").dataset.open = String(state.drawer !== null);
  // Behind an open drawer nothing can be reached, so the keyboard stays in it.
  $("talk").inert = state.drawer !== null;
  $("phones").inert = !phonesShown || state.drawer === "wire";
  $("wire").inert = !wireShown;
}

function openDrawer(name) {
  const before = state.drawer;
  state.drawer = name;
  drawPanels();
  if (name) {
    const start = $(name).querySelector("[aria-current]") ?? $(name).querySelector("[data-close]");
    start.focus();
  }
  if (!name && before) $(`${before}-button`).focus();
}

function closePanel(name) {
  if (state.drawer) {
    openDrawer(null);
    return;
  }
  if (name !== "wire") return;
  state.wireOpen = false;
  remember(WIRE_KEY, false);
  drawPanels();
  $("wire-button").focus();
}

$("phones-button").addEventListener("click", () => openDrawer("phones"));
$("wire-button").addEventListener("click", () => {
  if (!wireDocked.matches) {
    openDrawer("wire");
    return;
  }
  state.wireOpen = !state.wireOpen;
  remember(WIRE_KEY, state.wireOpen);
  drawPanels();
});
$("shade").addEventListener("click", () => openDrawer(null));
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => closePanel(button.dataset.close));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.drawer) openDrawer(null);
});
phonesDocked.addEventListener("change", drawPanels);
wireDocked.addEventListener("change", drawPanels);

// ---------------------------------------------------------------- the sandbox's events

let newerThanLoad = null; // Messages that arrived by event while the threads were being fetched.
let loading = 0;

/** Replace what we know by what the sandbox knows; events that came meanwhile win. */
async function loadThreads() {
  const mine = ++loading;
  newerThanLoad = [];
  const response = await fetch("/sandbox/threads", { cache: "no-store" });
  if (!response.ok) throw new Error(`the sandbox answered ${response.status}`);
  const { threads, ...standing } = await response.json();
  if (mine !== loading) return; // A later fetch is under way.
  keepStanding(standing);
  state.threads = new Map(threads.map((one) => [one.theirs, one.messages]));
  newerThanLoad.forEach(keep);
  newerThanLoad = null;
  drawPhones();
  drawThread();
  drawComposer();
}

/** Note whom the phones text, and what is told of the service. */
function keepStanding(standing) {
  state.ourNumber = standing.our_number;
  state.goneAt = standing.gone_at;
  state.service = standing.service;
  state.loaded = true;
  const end = nextLook();
  if (!end) return;
  const redraw = () => {
    drawEmpty();
    drawComposer();
  };
  setTimeout(redraw, Math.max(0, end - new Date()) + LOOK_SLACK_MS + 50);
}

function showConnection(live, label) {
  $("connection").dataset.state = live ? "live" : "reconnecting";
  $("connection-label").textContent = label;
}

function follow() {
  const events = new EventSource("/sandbox/events");
  let replaced = false;
  const reconnecting = () => {
    showConnection(false, "Reconnecting");
    if (events.readyState !== EventSource.CLOSED || replaced) return;
    replaced = true;
    setTimeout(follow, RETRY_MS);
  };
  events.addEventListener("open", async () => {
    try {
      await Promise.all([loadThreads(), loadWire()]);
      showConnection(true, "Live");
    } catch {
      events.close();
      reconnecting();
    }
  });
  events.addEventListener("error", reconnecting);
  events.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    newerThanLoad?.push(message);
    showMessage(message);
  });
  events.addEventListener("wire", (event) => showWire(JSON.parse(event.data)));
  events.addEventListener("provisioned", (event) => {
    keepStanding(JSON.parse(event.data));
    drawEmpty();
    drawComposer();
  });
}

// ---------------------------------------------------------------- beginning

const known = recall(PHONES_KEY);
const current = recall(CURRENT_KEY);
if (Array.isArray(known)) known.filter((one) => parseNumber(String(one)) === one).forEach(addPhone);
state.phone = parseNumber(String(current)) ?? DEFAULT_PHONE;
addPhone(DEFAULT_PHONE);
addPhone(state.phone);
state.wireOpen = recall(WIRE_KEY) ?? true;
drawPanels();
drawPhones();
drawComposer();
follow();

// ---------------------------------------------------------------- trouble

/** Make the connector misbehave, or change the instance behind the service's back. */
async function makeTrouble(button) {
  const meddle = button.dataset.meddle;
  const path = meddle ? "/sandbox/meddle" : "/sandbox/trouble";
  const body = meddle ? JSON.stringify({ what: meddle }) : button.dataset.trouble;
  const said = $("trouble-said");
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    const failure = answer.ok ? "" : (await answer.json()).message;
    said.textContent = failure || `${button.textContent}: done.${tellOfMeddling(meddle)}`;
  } catch {
    said.textContent = "The sandbox does not answer.";
  }
}

/** What a change behind the service's back means until it is put right. */
function tellOfMeddling(meddle) {
  const every = state.service.looks_every_s;
  const look = every ? `its next look, within ${every} s` : "its next look (CONNECTOR_WATCH_S)";
  const told = {
    disable: ` Replies wait until the service enables the instance at ${look}.`,
    rotate: ` Replies wait until the service has learnt the token at ${look}.`,
    callback: ` Texts reach nobody until the service puts the address right at ${look}.`,
    delete: ` The service makes a new instance at ${look}.`,
  };
  return told[meddle] ?? "";
}

for (const button of document.querySelectorAll("[data-trouble], [data-meddle]")) {
  button.addEventListener("click", () => makeTrouble(button));
}
