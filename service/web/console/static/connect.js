// What a script adds to Connect: fields are checked, and kept, as they are typed; buttons say that they are at work.

const PAUSE_MS = 400;
const RETRY_MS = 3000;

const form = document.querySelector("form[data-typed]");
let timer = 0;
let sending = null; // One request at a time: what was typed last is kept last.
let waiting = new Map(); // Fields by name that are to be sent.
let failed = false; // They were sent, and not kept.
let going = false; // The form is to be sent once they are kept, or can't be.

function write(problem, pieces) {
  problem.replaceChildren(
    ...pieces.map((text, place) => {
      if (place % 2 === 0) return document.createTextNode(text);
      const code = document.createElement("code");
      code.textContent = text;
      return code;
    }),
  );
  problem.hidden = pieces.length === 0;
}

// A problem is shown once somebody has left the field, and goes as soon as there is none.
function show(name, pieces) {
  const field = document.getElementById(name);
  const problem = document.getElementById(`${name}-problem`);
  if (!problem) return;
  if (pieces.length > 0 && field && !("left" in field.dataset || "wrong" in field.dataset)) return;
  write(problem, pieces);
  if (!field) return;
  if (pieces.length > 0) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

// Why what was typed is not kept: "signed-out", "not-kept"; "" when it is.
function tell(why) {
  for (const each of form.querySelectorAll("[data-unkept]")) each.hidden = each.dataset.unkept !== why;
}

async function send() {
  const typed = waiting;
  waiting = new Map();
  const body = new URLSearchParams(typed);
  body.set("csrf", form.elements.csrf.value);
  let answer = null;
  try {
    answer = await fetch(form.action, {
      method: "POST",
      headers: { accept: "application/json" },
      body,
      redirect: "manual", // To where one signs in.
    });
    failed = !answer.ok;
    if (!failed) took(typed, await answer.json());
  } catch {
    failed = true; // The service is away.
  }
  if (!failed) return;
  waiting = new Map([...typed, ...waiting]); // What was typed since stands.
  const signedOut = answer?.type === "opaqueredirect";
  tell(signedOut ? "signed-out" : "not-kept");
  if (!signedOut) timer = setTimeout(flush, RETRY_MS);
}

function took(typed, found) {
  for (const name of typed.keys()) {
    const field = name === "region" ? "open_connectors_base_url" : name;
    if (field in found && !waiting.has(name)) show(field, found[field]);
  }
  tell("");
  if (waiting.size === 0) form.dispatchEvent(new Event("kept"));
}

function flush() {
  clearTimeout(timer);
  if (sending || waiting.size === 0) return;
  sending = send().finally(() => {
    sending = null;
    if (!failed) flush();
  });
}

function note(element) {
  if (!element.name || element.type === "hidden") return;
  if (element.type === "password" && element.value === "") return;
  if (element.type === "radio" && !element.checked) return;
  waiting.set(element.name, element.value);
  const own = element.name === "open_connectors_base_url" && document.getElementById("region-own");
  if (own?.checked) waiting.set("region", own.value);
}

// What this tab had kept, and has written back, is sent with the first thing that somebody does.
function noteRestored() {
  if (form.querySelector("[data-typed-again]").hidden) return;
  for (const each of form.elements) note(each);
}

if (form) {
  form.addEventListener("input", (event) => {
    // A secret is sent whole, once it is typed.
    if (event.target.type === "password") return;
    noteRestored();
    note(event.target);
    clearTimeout(timer);
    if (!sending) timer = setTimeout(flush, PAUSE_MS);
  });
  form.addEventListener("change", (event) => {
    event.target.dataset.left = "";
    noteRestored();
    note(event.target);
    flush();
  });
  form.addEventListener("submit", (event) => {
    clearTimeout(timer);
    if (!going) noteRestored();
    if (!sending && (going || waiting.size === 0)) {
      going = false;
      waiting = new Map(); // The form has all of it.
      return;
    }
    going = true;
    event.preventDefault();
    event.stopImmediatePropagation();
    flush();
    sending.finally(() => form.requestSubmit(event.submitter));
  });
  form.querySelector("[aria-invalid]")?.focus();
}

// ---------------------------------------------------------------- buttons at work

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.defaultPrevented || !button?.dataset.busy) return;
  if (button.getAttribute("aria-disabled") === "true") {
    event.preventDefault();
    return;
  }
  button.setAttribute("aria-disabled", "true");
  button.dataset.says = button.textContent;
  button.textContent = button.dataset.busy;
});

// A page that the browser kept and comes back to is not at work.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const button of document.querySelectorAll("[data-says]")) {
    button.textContent = button.dataset.says;
    button.removeAttribute("aria-disabled");
  }
});

// ---------------------------------------------------------------- the plan

// No plan came: what is there without a script asks for it again.
function askByHand() {
  for (const each of document.querySelectorAll(".plan .scripted")) each.remove();
  for (const each of document.querySelectorAll(".plan .unscripted")) each.className = "";
}

document.addEventListener("htmx:error", askByHand);
document.addEventListener("htmx:response:error", (event) => {
  // Signed out meanwhile: the page itself leads to where one signs in.
  if (event.detail.ctx.response.status === 401) location.reload();
  else askByHand();
});
