// Keys, the stream that says something changed, and nothing else: every page works without this file.
"use strict";
(() => {
  const page = document.body.dataset;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const typing = (at) => at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) && at.type !== "range" && at.type !== "checkbox";

  // --- keys: a page lists what each does; a key with Ctrl, Alt or Meta belongs to the browser or to dictation software ---
  const HELD = ["j", "k", "ArrowDown", "ArrowUp", "+", "-", "[", "]"];
  const keys = new Map();
  const on = (key, step) => keys.set(key, step);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.closest("a, button, summary, label")) return;
    const step = keys.get(event.key);
    if (!step) return;
    event.preventDefault();
    // A key that is held down moves; it does not claim, say or read one study after the other.
    if (!event.repeat || HELD.includes(event.key)) step(event);
  });
  window.prioritizer = {
    on: (steps) => {
      for (const [key, step] of Object.entries(steps)) on(key, step);
    },
  };
  // All scripts of the page have run: from here on every key works.
  document.addEventListener("DOMContentLoaded", () => (document.documentElement.dataset.ready = "yes"));
  // A step is sent once: a second press while the answer is on its way would do it to the next study.
  let sent = false;
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => (sent = false));
  const submit = (form) => form && form.requestSubmit();
  const follow = (link) => link && link.click();
  on("?", () => {
    const help = one("#keys");
    if (!help) return;
    help.open = !help.open;
    if (help.open) help.scrollIntoView({ block: "end" });
  });
  for (const key of ["f", "b"]) on(key, () => follow(one(`[data-key="${key}"]`)));

  // --- the list ---
  const rows = () => all("#rows > tr[data-uid]");
  const selected = () => one("#rows > tr.at");
  const select = (row) => {
    if (!row) return;
    for (const other of rows()) other.classList.toggle("at", other === row);
    one("a.open", row).focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
    const address = new URL(location.href);
    address.searchParams.set("at", row.dataset.uid);
    history.replaceState(null, "", address);
  };
  const move = (by) => {
    const found = rows();
    const at = found.indexOf(selected());
    select(found[Math.min(Math.max(at + by, 0), found.length - 1)]);
  };
  const inRow = (selector) => {
    const row = selected();
    return row && one(selector, row);
  };
  if (page.page === "list") {
    on("j", () => move(1));
    on("k", () => move(-1));
    on("ArrowDown", () => move(1));
    on("ArrowUp", () => move(-1));
    on("Enter", () => follow(inRow("a.open")));
    on("n", () => submit(one("#next")));
    on("c", () => submit(inRow('form[action$="/claim"]')));
    on("u", () => submit(inRow('form[action$="/release"]')));
    on("v", () => follow(inRow("a.viewer")));
    on("w", () => follow(inRow("a.whylink")));
    // The address holds the selected row: shown anew, the list keeps the reader's place.
    on("r", () => location.reload());
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#show") || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      location.reload();
    });
    // "Why here?" is unfolded below the row, and folded by the second press.
    const unfolded = (link) => one(".whytext", link.closest("tr").nextElementSibling);
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a.whylink");
      if (!link || !unfolded(link).hasChildNodes()) return;
      event.preventDefault();
      event.stopPropagation();
      unfolded(link).replaceChildren();
      link.setAttribute("aria-expanded", "false");
    }, true);
    document.addEventListener("htmx:afterSwap", (event) => one("a.whylink", event.target.closest("tr").previousElementSibling).setAttribute("aria-expanded", "true"));
    for (const link of all("a.whylink")) link.setAttribute("aria-expanded", "false");
    on("/", () => one("#q").focus());
    document.addEventListener("focusin", (event) => {
      const row = event.target.closest("#rows > tr[data-uid]");
      if (row && row !== selected()) for (const other of rows()) other.classList.toggle("at", other === row);
    });
    const at = selected();
    if (at) {
      at.scrollIntoView({ block: "nearest" });
      if (document.activeElement === document.body) one("a.open", at).focus({ preventScroll: true });
    }
  }

  // --- search: one box, after a pause, one request ---
  const search = one("#search");
  if (search) {
    const box = one("#q", search);
    let asked = box.value.trim();
    let waiting = 0;
    const ask = () => {
      const text = box.value.trim();
      if (text === asked || (text !== "" && text.length < 3)) return;
      asked = text;
      search.requestSubmit();
    };
    box.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(ask, 400);
    });
    search.addEventListener("submit", () => {
      clearTimeout(waiting);
      for (const field of all("input, select", search)) if (!field.value) field.disabled = true;
    });
    for (const choice of all("select", search)) choice.addEventListener("change", () => search.requestSubmit());
    if (asked && one("#rows") && !selected()) {
      box.focus();
      box.setSelectionRange(box.value.length, box.value.length);
    }
  }

  // --- an open study: what happens to it meanwhile is told above it ---
  const now = one("#now");
  if (now && page.now) {
    const ask = async () => {
      try {
        const answer = await fetch(page.now, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (!answer.ok) return;
        const text = (await answer.text()).trim();
        if (now.dataset.text === text) return;
        now.dataset.text = text;
        now.innerHTML = text;
      } catch {
        // The network is away; a step would be refused with the reason.
      }
    };
    const stream = new EventSource("/live");
    stream.addEventListener("changed", ask);
    stream.addEventListener("still", ask);
    stream.addEventListener("signed-out", () => stream.close());
    addEventListener("pagehide", () => stream.close());
  }

  // --- live: the pill changes by itself, the rows never ---
  // Two short tones for a new STAT study, where the site wants them.
  const sound = () => {
    try {
      const context = new AudioContext();
      for (const [at, pitch] of [[0, 880], [0.25, 660]]) {
        const tone = context.createOscillator();
        const volume = context.createGain();
        volume.gain.value = 0.1;
        tone.frequency.value = pitch;
        tone.connect(volume).connect(context.destination);
        tone.start(context.currentTime + at);
        tone.stop(context.currentTime + at + 0.18);
      }
      setTimeout(() => context.close(), 1000);
    } catch {
      // Without sound the pill is still lit.
    }
  };
  const fresh = one("#fresh");
  const pill = one("#pill");
  if (fresh && pill && page.since) {
    const LOST_AFTER = 25000;
    const ASK_EVERY = 20000;
    let heard = Date.now();
    let answered = true;
    let sounded = 0;
    let lost = false;
    let gone = false;
    let asking = false;
    let again = false;
    const clock = (moment) => new Date(moment).toTimeString().slice(0, 8);
    const say = (text, warn) => {
      if (fresh.textContent === text) return;
      fresh.textContent = text;
      fresh.classList.toggle("warn", Boolean(warn));
    };
    const ask = async () => {
      if (gone) return;
      if (asking) {
        again = true;
        return;
      }
      asking = true;
      try {
        const query = new URLSearchParams({ since: page.since, list: page.list });
        const answer = await fetch(`/changes?${query}`, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) {
          signedOut();
        } else if (answer.ok) {
          const open = Boolean(one("details[open]", pill));
          const text = await answer.text();
          if (pill.dataset.text !== text) {
            pill.dataset.text = text;
            const held = pill.contains(document.activeElement);
            pill.innerHTML = text;
            if (open && one("details", pill)) one("details", pill).open = true;
            if (held && one("summary, a", pill)) one("summary, a", pill).focus();
            document.title = document.title.replace(/^\(!+\) |^\(\d+\) /, "");
            const stat = Number(one("[data-stat]", pill)?.dataset.stat || 0);
            if (stat > sounded && page.sound === "stat") sound();
            sounded = stat;
            if (one(".urgent", pill)) document.title = `(!!) ${document.title}`;
          }
          heard = Date.now();
          answered = true;
        } else {
          answered = false;
        }
      } catch {
        // The network is away: `watch` says so.
        answered = false;
      }
      asking = false;
      if (again) {
        again = false;
        ask();
      }
    };
    const signedOut = () => {
      gone = true;
      stream.close();
      say("signed out: load the page again to go on", true);
    };
    let stream;
    const listen = () => {
      stream = new EventSource("/live");
      stream.addEventListener("changed", () => {
        if (answered) heard = Date.now();
        ask();
      });
      stream.addEventListener("still", () => {
        if (answered) heard = Date.now();
      });
      stream.addEventListener("signed-out", signedOut);
    };
    listen();
    const watch = () => {
      if (gone) return;
      const silent = Date.now() - heard;
      lost = silent > LOST_AFTER || stream.readyState === EventSource.CLOSED;
      const up = answered && stream.readyState === EventSource.OPEN && silent <= LOST_AFTER;
      if (up) say(`live, rows as of ${clock(drawn)}`, false);
      else say(`!! not live: last answer ${Math.round(silent / 1000)} s ago, rows as of ${clock(drawn)}`, true);
      if ((lost || !answered) && Date.now() - asked > ASK_EVERY) {
        asked = Date.now();
        // A browser gives a stream up for good when the server answered it with an error.
        if (stream.readyState === EventSource.CLOSED) listen();
        ask();
      }
    };
    const drawn = Date.now();
    let asked = Date.now();
    setInterval(watch, 1000);
    addEventListener("pagehide", () => stream.close());
    addEventListener("pageshow", (event) => {
      // Back from a study: the browser may show the list as it was; the reader left it, so it is drawn anew.
      if (event.persisted) location.reload();
    });
  }
})();
