// What a script adds to the console's pages: times that go on, keys, and a word on whether the page is live.

const find = (selector) => document.querySelector(selector);

// ---------------------------------------------------------------- times

// The words of `wording.lasting` and `wording.ago`.
function lasting(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function ago(at) {
  const seconds = Math.trunc((Date.now() - at) / 1000);
  if (Math.abs(seconds) < 5) return "just now";
  return seconds > 0 ? `${lasting(seconds)} ago` : `in ${lasting(-seconds)}`;
}

function refreshTimes() {
  for (const each of document.querySelectorAll("time[datetime]")) {
    const text = ago(Date.parse(each.dateTime));
    if (each.textContent !== text) each.textContent = text;
  }
}

setInterval(refreshTimes, 5000);

// ---------------------------------------------------------------- keys

const KEYS_OFF = "parley-console-keys-off";
const dialog = find("#keys");
let goes = 0;

function keysAreOn() {
  try {
    return localStorage.getItem(KEYS_OFF) === null;
  } catch {
    return true; // A browser that keeps nothing.
  }
}

function isWriting(element) {
  return element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName);
}

function showKeys() {
  if (dialog && !dialog.open) dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = find("[data-search]");
  if (event.key === "Escape" && event.target === search) {
    search.blur();
    return;
  }
  if (isWriting(event.target) || dialog?.open || !keysAreOn()) return;
  const going = Date.now() - goes < 1500;
  goes = 0;
  if (going) {
    const link = find(`.nav a[data-key="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
  } else if (event.key === "g") {
    goes = Date.now();
  } else if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "?") {
    event.preventDefault();
    showKeys();
  }
});

find("[data-keys]")?.addEventListener("click", (event) => {
  event.preventDefault();
  showKeys();
});

const keysOn = find("#keys-on");
if (keysOn) {
  keysOn.checked = keysAreOn();
  keysOn.addEventListener("change", () => {
    try {
      if (keysOn.checked) localStorage.removeItem(KEYS_OFF);
      else localStorage.setItem(KEYS_OFF, "1");
    } catch {
      keysOn.checked = true;
    }
  });
}

// ---------------------------------------------------------------- navigation

// On a phone it scrolls, and the page that is shown may lie beyond the edge.
find(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// ---------------------------------------------------------------- what was typed

// It outlives a reload and signing in again, in this tab alone, until it has done what it was for.
const TYPED = "parley-console-typed ";
const keptForm = find("form[data-keep]");

function inTab(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null; // A browser that keeps nothing.
  }
}

// A browser writes on a disk what a tab keeps: that is no place for a secret.
function typedIn(form) {
  return [...new FormData(form)].filter(([name]) => !/^(hidden|password)$/.test(form.elements[name]?.type));
}

function forget(beginning) {
  inTab((tab) => {
    for (const key of Object.keys(tab)) if (key.startsWith(TYPED + beginning)) tab.removeItem(key);
  });
}

// Rows that "More fields" had added: a form that is begun anew has fewer.
function addRows(form, name) {
  const place = Number(/^ours\.(\d{1,4})$/.exec(name)?.[1] ?? -1);
  for (let rows = form.querySelectorAll(".pair-row").length; rows > 0 && rows <= place; rows += 1) {
    const row = [...form.querySelectorAll(".pair-row")].at(-1).cloneNode(true);
    row.dataset.added = "";
    for (const each of row.querySelectorAll(".problem, .tag")) each.remove();
    for (const each of row.querySelectorAll("[name]")) {
      each.name = each.id = `${each.name.split(".")[0]}.${rows}`;
      const says = each.name.startsWith("ours.") ? "Your name of" : "What fills";
      each.setAttribute("aria-label", `${says} field ${rows + 1}`);
      each.removeAttribute("value");
      for (const mark of ["aria-invalid", "aria-describedby", "autofocus"]) each.removeAttribute(mark);
      each.value = "";
    }
    form.querySelector(".pairs").append(row);
  }
}

function fill(form, fields) {
  for (const [name, value] of fields) {
    addRows(form, name);
    const field = form.elements[name];
    const takes = field?.tagName !== "SELECT" || [...field.options].some((each) => each.value === value);
    if (field && "value" in field && takes) field.value = value;
    field?.closest?.("details")?.toggleAttribute("open", Boolean(value));
  }
}

if (keptForm) {
  const key = TYPED + keptForm.dataset.keep;
  const note = keptForm.querySelector("[data-typed-again]");
  const kept = "fresh" in keptForm.dataset ? inTab((tab) => JSON.parse(tab.getItem(key))) : null;
  const before = JSON.stringify(typedIn(keptForm));
  if (kept && JSON.stringify(kept) !== before) {
    fill(keptForm, kept);
    note.hidden = false;
    note.querySelector("button").addEventListener("click", () => {
      inTab((tab) => tab.removeItem(key));
      for (const each of keptForm.querySelectorAll("[data-added]")) each.remove();
      keptForm.reset();
      fill(keptForm, JSON.parse(before));
      note.hidden = true;
    });
  }
  // The service has it.
  keptForm.addEventListener("kept", () => {
    inTab((tab) => tab.removeItem(key));
    note.hidden = true;
  });
  keptForm.addEventListener("input", () => inTab((tab) => tab.setItem(key, JSON.stringify(typedIn(keptForm)))));
  if ("done" in keptForm.dataset) inTab((tab) => tab.removeItem(key));
}

for (const each of document.querySelectorAll("span[data-done]")) {
  inTab((tab) => tab.removeItem(TYPED + each.dataset.done));
}

for (const each of document.querySelectorAll("form[data-forget]")) {
  each.addEventListener("submit", () => forget(each.dataset.forget));
}

// What an operator typed is not for a viewer who signs in at this tab later.
if (find('[data-role="viewer"]')) forget("");

find("[data-sign-out]")?.addEventListener("submit", () => inTab((tab) => tab.clear()));

// ---------------------------------------------------------------- the live page

const live = find("#live");
const connection = find("#connection");
const RETRY_MS = 3000;
const SILENT_MS = 10000; // Five heartbeats missed.

function say(state, text) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = text;
}

if (live && connection) {
  const isLive = () => say("live", "Live");
  const isNot = () => say("reconnecting", "Reconnecting");
  const again = (status) => {
    // Signed out meanwhile: the page itself leads to where one signs in.
    if (status === 401) location.reload();
    else isNot();
  };
  live.addEventListener("htmx:sse:after:connection", isLive);
  live.addEventListener("htmx:sse:after:message", isLive);
  live.addEventListener("htmx:sse:error", (event) => again(event.detail.status));
  live.addEventListener("signed-out", () => location.reload());
  // The extension goes on by itself once it was connected; a first connection that fails is ours.
  const first = (status) => {
    again(status);
    setTimeout(() => htmx.trigger(live, "retry"), RETRY_MS);
  };
  live.addEventListener("htmx:response:error", (event) => first(event.detail.ctx.response.status));
  live.addEventListener("htmx:error", () => first(0));
}
