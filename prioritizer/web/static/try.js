// The threshold slider: what raising from another probability on would have given on the bundle's own films.
"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const box = one("#threshold");
  if (!box) return;
  const points = JSON.parse(box.dataset.points);
  const cut = one("#cut");
  const prevalence = one("#prevalence");
  const shown = one("#probability");
  const probability = shown ? Number(shown.dataset.value) : null;
  const high = Number(box.dataset.high);
  const nearest = points.reduce((best, point, at) => (Math.abs(point[0] - high) < Math.abs(points[best][0] - high) ? at : best), 0);
  cut.value = String(nearest);
  const tell = () => {
    const [threshold, sensitivity, specificity] = points[Number(cut.value)];
    const share = Math.min(Math.max(Number(prevalence.value) || 0, 0), 100) / 100;
    const flags = 100 * (share * sensitivity + (1 - share) * (1 - specificity));
    one("#cutshown").textContent = threshold.toFixed(3);
    const here = probability === null ? "" : probability >= threshold ? " This file would be raised." : " This file would stay in order of arrival.";
    one("#traded").textContent =
      `Sensitivity ${sensitivity.toFixed(3)}, specificity ${specificity.toFixed(3)}, ${flags.toFixed(0)} of 100 studies raised.${here}`;
  };
  for (const input of [cut, prevalence]) input.addEventListener("input", tell);
  box.hidden = false;
  tell();
})();
