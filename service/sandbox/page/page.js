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

const $ = (id) => document.getElementById(id);
const phonesDocked = matchMedia("(min-width: 760px)");
const wireDocked = matchMedia("(min-width: 1100px)");

const state = {
  ourNumber: null,
  loaded: false,
  phone: DEFAULT_PHONE,
  phones: [],
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

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
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
