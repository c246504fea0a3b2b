// Keys, deadlines that run, notes that are not lost, the stream that says something changed: every page works without this file.
"use strict";
(() => {
  const page = document.body.dataset;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const typing = (at) => at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) && at.type !== "range" && at.type !== "checkbox";

  // --- keys: a page lists what each does; a key with Ctrl, Alt or Meta belongs to the browser or to dictation software ---
  const HELD = ["j", "k", "ArrowDown", "ArrowUp", "+", "-", "[", "]", ",", "."];
  const AFTER_A_LOOK = ["Enter", "n", "y", "x", "s"];
  const keys = new Map();
  const on = (key, step) => keys.set(key, step);
  document.addEventListener("keydown", (event) => {
    // AltGr, which types [ and ] on many keyboards, counts as Ctrl and Alt together.
    const signs = event.getModifierState("AltGraph");
    if (((event.ctrlKey || event.altKey) && !signs) || event.metaKey || event.isComposing) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.closest("a, button, summary, label")) return;
    const step = keys.get(event.key);
    if (!step) return;
    event.preventDefault();
    // A key that is held down moves; it does not claim, say or read one study after the other.
    if (event.repeat && !HELD.includes(event.key)) return;
    if (AFTER_A_LOOK.includes(event.key) && !window.prioritizer.looked()) return;
    step(event);
  });
  window.prioritizer = {
    // A page of films says when they could have been looked at.
    looked: () => true,
    on: (steps) => {
      for (const [key, step] of Object.entries(steps)) on(key, step);
    },
  };
  // All scripts of the page have run: from here on every key works.
  document.addEventListener("DOMContentLoaded", () => (document.documentElement.dataset.ready = "yes"));
  // A step is sent once: a second press while the answer is on its way would do it to the next study.
  let sent = false;
  document.addEventListener("submit", (event) => {
    const asks = event.submitter?.getAttribute("formmethod") || event.target.method;
    if (asks !== "post") return;
    // Two clicks at one place would read the study that came under the pointer meanwhile.
    const leaves = event.submitter?.id === "read" || event.target.id === "next";
    if (sent || (leaves && !window.prioritizer.looked())) {
      event.preventDefault();
      return;
    }
    sent = true;
    // A browser that was told to stop stays on the page: its steps work again.
    setTimeout(() => (sent = false), 5000);
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

  // --- deadlines run: the words are counted down, rows stay where they are ---
  // By the server's clock: that of the machine may be wrong.
  const ahead = page.now_at ? Date.parse(page.now_at) - Date.now() : 0;
  const span = (milliseconds) => {
    const seconds = Math.max(Math.floor(milliseconds / 1000), 0);
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")}`;
    return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
  };
  const count = () => {
    for (const due of all("[data-due]")) {
      const left = Date.parse(due.dataset.due) - (Date.now() + ahead);
      const text = left < 0 ? `OVERDUE ${span(-left)}` : `${due.dataset.before} due in ${span(left)}`.trim();
      const words = one(".when", due);
      if (words.textContent === text) continue;
      words.textContent = text;
      if (left >= 0) continue;
      one(".mark", due).textContent = "!!";
      const tone = due.closest(".neutral, .raised");
      if (tone) tone.classList.replace(tone.classList.contains("raised") ? "raised" : "neutral", "alarm");
    }
  };
  if (one("[data-due]")) setInterval(count, 5000);

  // --- the list ---
  const rows = () => all("#rows > tr[data-uid]");
  const selected = () => one("#rows > tr.at");
  const mark = (row) => {
    for (const other of rows()) other.classList.toggle("at", other === row);
    const address = new URL(location.href);
    address.searchParams.set("at", row.dataset.uid);
    history.replaceState(null, "", address);
  };
  const select = (row) => {
    if (!row) return;
    mark(row);
    one("a.open", row).focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
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
    on("c", () => follow(inRow('[data-step="claim"]')));
    on("u", () => follow(inRow('[data-step="release"]')));
    on("v", () => follow(inRow("a.viewer")));
    on("w", () => follow(inRow(".whylink")));
    // The address holds the selected row: shown again, the list keeps the reader's place.
    on("r", () => location.reload());
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#show") || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      location.reload();
    });
    // "Why here?" is unfolded below the row, and folded by the second press.
    const unfolded = (link) => one(".whytext", link.closest("tr").nextElementSibling);
    document.addEventListener("click", (event) => {
      const link = event.target.closest(".whylink");
      if (!link || !unfolded(link).hasChildNodes()) return;
      event.preventDefault();
      event.stopPropagation();
      unfolded(link).replaceChildren();
      link.setAttribute("aria-expanded", "false");
    }, true);
    document.addEventListener("htmx:afterSwap", (event) => {
      one(".whylink", event.target.closest("tr").previousElementSibling).setAttribute("aria-expanded", "true");
    });
    for (const link of all(".whylink")) link.setAttribute("aria-expanded", "false");
    on("/", () => one("#q").focus());
    document.addEventListener("focusin", (event) => {
      const row = event.target.closest("#rows > tr[data-uid]");
      if (row && row !== selected()) mark(row);
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

  // --- a note that is typed and not said yet: a key that loads the page again, or leaves it for a while, loses none of it ---
  const note = one("#note");
  if (note) {
    // Of this person: another one who signs in at this screen must not read it.
    const draft = `note ${one(".who a").textContent} ${location.pathname}`;
    const kept = sessionStorage.getItem(draft);
    const said = kept !== null && kept.trim().replace(/\s+/g, " ") === note.defaultValue;
    if (said) sessionStorage.removeItem(draft);
    else if (kept !== null) note.value = kept;
    note.addEventListener("input", () => sessionStorage.setItem(draft, note.value));
  }

  // --- the stream: closed while nobody sees the page, since a browser has six connections to a host and every tab would hold one ---
  const REST = 60000;
  const stream = (heard, always) => {
    let source = null;
    // The server has enough streams of this person: the page asks by itself for a while.
    let rests = 0;
    const open = () => {
      if (Date.now() < rests || (source && source.readyState !== EventSource.CLOSED)) return;
      source = new EventSource("/live");
      for (const said of ["changed", "still", "signed-out", "full"]) source.addEventListener(said, () => {
        if (said === "full") {
          rests = Date.now() + REST;
          close();
        }
        heard(said);
      });
    };
    const close = () => {
      if (source) source.close();
      source = null;
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden && !always) close();
      if (!document.hidden) {
        open();
        heard("changed");
      }
    });
    addEventListener("pagehide", close);
    if (!document.hidden || always) open();
    return { open, close, live: () => source !== null && source.readyState === EventSource.OPEN };
  };
  const ASK_EVERY = 20000;

  // --- an open study: what happens to it meanwhile is told above it ---
  const now = one("#now");
  if (now && page.now) {
    let asked = Date.now();
    let gone = false;
    const tell = (text) => {
      if (now.dataset.text === text) return;
      now.dataset.text = text;
      now.innerHTML = text;
    };
    const signedOut = () => {
      gone = true;
      news.close();
      tell('<p class="banner alarm"><b>!! You are signed out:</b> nothing that you do here is kept. <a href="">Sign in and come back</a></p>');
    };
    const ask = async () => {
      if (gone) return;
      asked = Date.now();
      try {
        const answer = await fetch(page.now, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) signedOut();
        else if (answer.ok) tell((await answer.text()).trim());
      } catch {
        // The network is away; a step would be refused with the reason.
      }
    };
    const news = stream((said) => {
      if (said === "signed-out") signedOut();
      else if (said !== "full") ask();
    }, false);
    setInterval(() => {
      if (gone || news.live() || Date.now() - asked < ASK_EVERY) return;
      if (!document.hidden) news.open();
      ask();
    }, 1000);
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
        // What stood here may fit the list no more: a study that was taken over is none of one's own any longer.
        if (page.changing) query.set("shown", rows().map((row) => row.dataset.uid).join(","));
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
      news.close();
      say("signed out: load the page again to go on", true);
    };
    const news = stream((said) => {
      if (said === "signed-out") signedOut();
      if (said === "full" || gone) return;
      if (answered) heard = Date.now();
      if (said === "changed") ask();
    }, page.sound === "stat");
    const watch = () => {
      if (gone) return;
      const silent = Date.now() - heard;
      lost = silent > LOST_AFTER || !news.live();
      const up = answered && news.live() && silent <= LOST_AFTER;
      if (up) say(`live, rows as of ${clock(drawn)}`, false);
      else say(`!! not live: last answer ${Math.round(silent / 1000)} s ago, rows as of ${clock(drawn)}`, true);
      if ((lost || !answered) && Date.now() - asked > ASK_EVERY) {
        asked = Date.now();
        // A browser gives a stream up permanently when the server answered it with an error.
        if (!document.hidden) news.open();
        ask();
      }
    };
    const drawn = Date.now();
    let asked = Date.now();
    setInterval(watch, 1000);
    addEventListener("pageshow", (event) => {
      // Back from a study: the browser may show the list as it was; the reader left it, so it is drawn again.
      if (event.persisted) location.reload();
    });
  }
})();
