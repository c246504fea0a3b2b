// Films: window by drag, zoom, move, invert, heat map. The PNG holds 16 bits a tone: red is the high byte, green the low one.
"use strict";
(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  class Film {
    constructor(figure) {
      this.figure = figure;
      this.view = one(".view", figure);
      this.canvas = document.createElement("canvas");
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", one("img", figure).alt);
      this.heat = null;
      this.inverted = false;
      this.zoom = 0; // 0: fitted
      this.at = { x: 0, y: 0 };
    }

    async load() {
      const bitmap = await this.bitmap();
      if (!bitmap) return;
      this.columns = this.canvas.width = bitmap.width;
      this.rows = this.canvas.height = bitmap.height;
      const ink = this.canvas.getContext("2d", { willReadFrequently: true });
      ink.drawImage(bitmap, 0, 0);
      const bytes = ink.getImageData(0, 0, this.columns, this.rows).data;
      this.tones = new Uint16Array(this.columns * this.rows);
      for (let i = 0; i < this.tones.length; i++) this.tones[i] = (bytes[4 * i] << 8) | bytes[4 * i + 1];
      this.ink = ink;
      this.out = ink.createImageData(this.columns, this.rows);
      this.words = new Uint32Array(this.out.data.buffer);
      this.begin();
      one("img", this.view).replaceWith(this.canvas);
      this.listen();
      await this.loadHeat();
    }

    async bitmap() {
      // A film of a study is asked for; one that was only tried stands in the page itself and nowhere else.
      const exact = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      const { film, low, high } = this.figure.dataset;
      if (film.startsWith("data:")) {
        this.first = { low: Number(low), high: Number(high) };
        const image = new Image();
        image.src = film;
        await image.decode();
        return createImageBitmap(image, exact);
      }
      const answer = await fetch(film);
      if (!answer.ok) return null;
      this.first = { low: Number(answer.headers.get("X-Window-Low")), high: Number(answer.headers.get("X-Window-High")) };
      return createImageBitmap(await answer.blob(), exact);
    }

    async loadHeat() {
      if (!this.figure.dataset.heat) return;
      const image = new Image();
      image.className = "heat";
      image.alt = "";
      const { heat } = this.figure.dataset;
      image.src = heat.startsWith("data:") ? heat : `${heat}?rows=${this.rows}&columns=${this.columns}`;
      try {
        await image.decode();
      } catch {
        return;
      }
      this.view.append(image);
      this.heat = image;
      this.place();
      if (this.onheat) this.onheat();
    }

    // As the reader left it: a key that loads the page again changes nothing of what they look at.
    begin() {
      const kept = keptViews()[this.figure.dataset.film];
      if (!kept) {
        this.reset();
        return;
      }
      Object.assign(this, kept);
      this.draw();
      this.place();
    }

    get seenAs() {
      return { window: this.window, inverted: this.inverted, zoom: this.zoom, at: this.at };
    }

    reset() {
      this.window = { ...this.first };
      this.inverted = false;
      this.zoom = 0;
      this.at = { x: 0, y: 0 };
      this.draw();
      this.place();
    }

    draw() {
      // One table of all 65536 tones, then one look-up a pixel.
      const table = new Uint32Array(65536);
      const { low, high } = this.window;
      const span = Math.max(high - low, 1e-4);
      for (let tone = 0; tone < 65536; tone++) {
        let shown = (tone / 65535 - low) / span;
        shown = Math.min(Math.max(shown, 0), 1);
        if (this.inverted) shown = 1 - shown;
        const grey = Math.round(shown * 255);
        table[tone] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
      }
      for (let i = 0; i < this.tones.length; i++) this.words[i] = table[this.tones[i]];
      this.ink.putImageData(this.out, 0, 0);
      this.figure.dataset.window = `${low.toFixed(4)} ${high.toFixed(4)}`;
    }

    get fitted() {
      return Math.min(this.view.clientWidth / this.columns, this.view.clientHeight / this.rows);
    }

    place() {
      const scale = this.zoom || this.fitted;
      const left = (this.view.clientWidth - this.columns * scale) / 2 + this.at.x;
      const top = (this.view.clientHeight - this.rows * scale) / 2 + this.at.y;
      for (const layer of [this.canvas, this.heat]) {
        if (!layer) continue;
        layer.style.width = `${this.columns * scale}px`;
        layer.style.height = `${this.rows * scale}px`;
        layer.style.left = `${left}px`;
        layer.style.top = `${top}px`;
      }
      this.figure.dataset.scale = scale.toFixed(3);
    }

    zoomBy(factor) {
      const wanted = (this.zoom || this.fitted) * factor;
      this.zoom = Math.min(Math.max(wanted, this.fitted / 2), 16);
      this.place();
    }

    moveBy(x, y) {
      this.at = { x: this.at.x + x, y: this.at.y + y };
      this.place();
    }

    windowBy(level, width) {
      const middle = (this.window.low + this.window.high) / 2 + level;
      const span = Math.max((this.window.high - this.window.low) * Math.exp(width), 0.002);
      this.window = { low: middle - span / 2, high: middle + span / 2 };
      if (!this.waiting) {
        this.waiting = requestAnimationFrame(() => {
          this.waiting = 0;
          this.draw();
        });
      }
    }

    listen() {
      let from = null;
      this.view.addEventListener("pointerdown", (event) => {
        if (event.button > 1) return;
        from = { x: event.clientX, y: event.clientY };
        this.view.setPointerCapture(event.pointerId);
        this.view.focus();
      });
      this.view.addEventListener("pointermove", (event) => {
        if (!from) return;
        const [x, y] = [event.clientX - from.x, event.clientY - from.y];
        from = { x: event.clientX, y: event.clientY };
        if (event.shiftKey || event.buttons === 4) this.moveBy(x, y);
        else this.windowBy(y / 600, x / 300);
      });
      for (const name of ["pointerup", "pointercancel"]) this.view.addEventListener(name, () => (from = null));
      this.view.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 400));
      }, { passive: false });
      this.view.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
        if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        this.moveBy(...step);
      });
      addEventListener("resize", () => this.place());
    }
  }

  // Of the study that is open, and of no other: a tried film stands in its page and has no address to keep it by.
  const keptViews = () => {
    const kept = JSON.parse(sessionStorage.getItem("views") || "null");
    return kept && kept.study === location.pathname ? kept.films : {};
  };
  const films = all("figure.film").map((figure) => new Film(figure));
  if (films.length) one(".tools").hidden = false;
  addEventListener("pagehide", () => {
    const drawn = films.filter((film) => film.tones && !film.figure.dataset.film.startsWith("data:"));
    const views = Object.fromEntries(drawn.map((film) => [film.figure.dataset.film, film.seenAs]));
    sessionStorage.setItem("views", JSON.stringify({ study: location.pathname, films: views }));
  });

  // A study is said of, read or skipped once its films stood there for a moment: a second press was meant for the study before.
  const A_LOOK = 800;
  Promise.allSettled(films.map((film) => film.load())).then(() => {
    setTimeout(() => (document.documentElement.dataset.looked = "yes"), A_LOOK);
  });
  window.prioritizer.looked = () => document.documentElement.dataset.looked === "yes";
  const each = (step) => films.filter((film) => film.tones).forEach(step);

  // --- heat map: one opacity for all films, kept for the next study ---
  const slider = one("#opacity");
  const shown = one("#opacityshown");
  let on = true;
  const opacity = () => {
    if (!slider) return;
    const share = on ? Number(slider.value) : 0;
    shown.textContent = on ? `${share} %` : "off";
    for (const film of films) if (film.heat) film.heat.style.opacity = String(share / 100);
  };
  if (slider) {
    const kept = sessionStorage.getItem("opacity");
    if (kept !== null) slider.value = kept;
    slider.addEventListener("input", () => {
      on = true;
      sessionStorage.setItem("opacity", slider.value);
      opacity();
    });
    for (const film of films) {
      film.onheat = () => {
        one(".heattools").hidden = false;
        opacity();
      };
    }
  }
  const slide = (by) => {
    if (!slider) return;
    slider.value = String(Number(slider.value) + by);
    slider.dispatchEvent(new Event("input"));
  };

  const tools = {
    invert: () => each((film) => { film.inverted = !film.inverted; film.draw(); }),
    fit: () => each((film) => { film.zoom = 0; film.at = { x: 0, y: 0 }; film.place(); }),
    actual: () => each((film) => { film.zoom = 1 / devicePixelRatio; film.place(); }),
    reset: () => each((film) => film.reset()),
    heat: () => { on = !on; opacity(); },
  };
  for (const button of all("[data-tool]")) button.addEventListener("click", tools[button.dataset.tool]);
  const keys = {
    i: tools.invert, z: tools.fit, 1: tools.actual, 0: tools.reset, o: tools.heat,
    "[": () => slide(-5), "]": () => slide(5), "+": () => each((film) => film.zoomBy(1.25)), "-": () => each((film) => film.zoomBy(0.8)),
    // Darker, brighter; less and more contrast.
    ",": () => each((film) => film.windowBy(0.02, 0)), ".": () => each((film) => film.windowBy(-0.02, 0)),
    j: () => each((film) => film.windowBy(0, 0.1)), k: () => each((film) => film.windowBy(0, -0.1)),
  };
  const press = (selector) => () => { const found = one(selector); if (found) found.click(); };
  Object.assign(keys, {
    h: press("#reveal button"), y: press('[data-say="y"]'), x: press('[data-say="x"]'), s: press('[data-say="s"]'), Enter: press("#read"),
    n: press("#next button"), c: press("#claim button"), u: press("#release button"), v: press("#viewer"), Escape: press("#back"),
    w: () => { const told = one("#happened"); if (told) { told.open = true; told.scrollIntoView({ block: "nearest" }); } },
  });
  window.prioritizer.on(keys);
})();
