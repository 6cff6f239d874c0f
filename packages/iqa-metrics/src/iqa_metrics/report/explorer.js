"use strict";
// The explorer: what is chosen, the page's address that holds it, and the controls that change it.

const SHOWN = window.matchMedia("(max-width: 40rem)").matches ? 3 : 6;
const ADDRESS = "#explore?";

class Explorer {
  constructor(data) {
    const part = (name) => document.getElementById(`explorer-${name}`);
    this.data = data;
    this.part = part;
    this.shown = SHOWN;
    this.charts = {};
    for (const name of ["scatter", "depth", "models"]) {
      this.charts[name] = new Chart(part(name), part("tip"));
    }
    this.state = this.restored();
    const chosen = (name, change) => {
      part(name).addEventListener("change", (event) => this.change(change(event.target.value)));
    };
    chosen("database", (value) => ({ database: value, pair: null }));
    chosen("of", (value) => ({ of: value, series: null }));
    chosen("layer", (value) => ({ series: value }));
    chosen("kind", (value) => ({ kind: value, pair: null }));
    part("scatter").addEventListener("keydown", (event) => this.step(event));
    part("more").addEventListener("click", () => {
      this.shown += SHOWN;
      this.showDisputes();
    });
    window.addEventListener("hashchange", () => {
      if (location.hash.startsWith(ADDRESS)) this.open();
    });
    document.documentElement.addEventListener("themechange", () => this.recoloured());
    document.getElementById("explorer").hidden = false;
    if (location.hash.startsWith(ADDRESS)) this.open();
    else this.show();
  }

  /** Return the state of the page's address, as far as it can be understood. */
  restored() {
    const asked = location.hash.startsWith(ADDRESS)
      ? new URLSearchParams(location.hash.slice(ADDRESS.length))
      : new URLSearchParams();
    const pair = asked.has("distorted")
      ? { distorted: asked.get("distorted"), reference: asked.get("reference") }
      : null;
    return {
      database: asked.get("database"),
      of: null,
      series: asked.get("series"),
      kind: asked.get("distortion") || "",
      pair,
      theme: asked.get("theme"),
    };
  }

  /** Show what the page's address asks for. */
  open() {
    this.state = this.restored();
    const { theme } = this.state;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    this.shown = SHOWN;
    this.show();
    document.getElementById("explore").scrollIntoView();
  }

  /** Change a part of the state, show it, and keep it in the page's address. */
  change(parts) {
    Object.assign(this.state, parts);
    if (!("pair" in parts)) this.shown = SHOWN;
    this.show();
    this.keep();
  }

  keep() {
    const { database, series, pair } = this;
    const kept = new URLSearchParams({ database: database.name, series: series.name });
    if (this.state.kind) kept.set("distortion", this.state.kind);
    if (pair && this.state.pair) {
      kept.set("distorted", pair.distorted);
      kept.set("reference", pair.reference);
    }
    const { theme } = document.documentElement.dataset;
    if (theme) kept.set("theme", theme);
    history.replaceState(null, "", `${ADDRESS}${kept}`);
  }

  /** Bring the state in line with the data, and everything shown in line with the state. */
  show() {
    const { data, state } = this;
    this.database = data.databases.find((one) => one.name === state.database) || data.databases[0];
    const all = this.database.series;
    const first = all.find((one) => one.role === "best" || one.role === "chosen") || all[0];
    this.series = all.find((one) => one.name === state.series && (!state.of || one.of === state.of))
      || all.find((one) => one.of === state.of)
      || first;
    const { kinds, rated } = this.database;
    // Severities of different kinds can't be compared, so there it is one kind at a time.
    if (!kinds.includes(state.kind)) state.kind = rated ? "" : kinds[0];
    Object.assign(state, { database: this.database.name, series: this.series.name, of: null });
    this.pairs = pairsOf(this.database, this.series, state.kind);
    this.disputes = disputesOf(this.pairs);
    this.pair = this.pairs.find(
      ({ distorted, reference }) =>
        state.pair && distorted === state.pair.distorted && reference === state.pair.reference,
    ) || this.disputes.better[0] || this.disputes.worse[0] || this.pairs[0];
    this.showControls();
    this.showNumbers();
    this.showPair();
    this.showDisputes();
    this.draw();
  }

  showControls() {
    const { database, series, state } = this;
    const options = (name, values, chosen) => {
      this.part(name).replaceChildren(
        ...values.map(([value, words]) => new Option(words, value, false, value === chosen)),
      );
    };
    options("database", this.data.databases.map((one) => [one.name, one.label]), database.name);
    this.part("database-label").hidden = this.data.databases.length < 2;
    const groups = [["Networks", false], ["Baselines", true]].map(([label, isBaseline]) => {
      const group = document.createElement("optgroup");
      group.label = label;
      const names = database.series.filter((one) => (one.layer === "") === isBaseline);
      for (const name of new Set(names.map((one) => one.of))) {
        group.append(new Option(name, name, false, name === series.of));
      }
      return group;
    });
    this.part("of").replaceChildren(...groups.filter((group) => group.children.length));
    const layers = database.series.filter((one) => one.of === series.of);
    const roles = { best: " (best)", last: " (last)" };
    options(
      "layer",
      layers.map((one) => [
        one.name,
        one.layer ? `${one.layer}, ${one.readout}${roles[one.role] || ""}` : "–",
      ]),
      series.name,
    );
    this.part("layer-label").hidden = series.layer === "";
    options(
      "kind",
      [
        ...(database.rated ? [["", "all"]] : []),
        ...database.kinds.filter(Boolean).map((kind) => [kind, kind]),
      ],
      state.kind,
    );
    this.part("kind-label").hidden = database.kinds.length < 2;
  }

  showNumbers() {
    const { database, series, state } = this;
    const numbers = series.numbers[state.kind];
    const place = state.kind ? `${database.label}, ${state.kind}` : database.label;
    this.part("scatter-heading").textContent = `${series.name} on ${place}`;
    const parts = numbers
      ? [
        `${numbers[0].toLocaleString("en")} pairs`,
        `SROCC${database.rated ? "" : " within references"} ${written(numbers[1])}`,
        `PLCC after the logistic ${written(numbers[2])}`,
        `PLCC ${written(numbers[3])}`,
        `KROCC ${written(numbers[4])}`,
        `RMSE ${numbers[5] === null ? "–" : measured(numbers[5])}`,
      ]
      : ["There are no correlations for this choice."];
    if (database.ceiling !== null) parts.push(`noise ceiling ${written(database.ceiling)}`);
    this.part("numbers").replaceChildren(...parts.map((words) => made("span", "", words)));
  }

  showPair() {
    showPair(this.part("pair"), this.data, this.database, this.series, this.pair);
  }

  showDisputes() {
    const { database, disputes } = this;
    const judge = judgeOf(database);
    this.part("disputes").textContent = `Where the metric and ${judge} disagree most`;
    this.part("disputes-hint").textContent = `Disagreement is the difference between the rank of a pair by ${judge} and its rank by the metric, among the pairs of the chosen distortion. Rank 1 is the best quality.`;
    const words = database.rated
      ? ["People like these better than the metric says", "People like these less than the metric says"]
      : ["Less severe than the metric says", "More severe than the metric says"];
    ["better", "worse"].forEach((name, which) => {
      this.part(`${name}-heading`).textContent = words[which];
      listPairs(
        this.part(name), this.data, database, this.series, disputes[name].slice(0, this.shown),
        this.pair && this.pair.at, (pair) => this.choose(pair),
      );
    });
    const most = Math.max(disputes.better.length, disputes.worse.length);
    this.part("more").hidden = this.shown >= most;
  }

  /** Choose a pair, without drawing everything again. */
  choose(pair) {
    this.pair = pair;
    this.state.pair = { distorted: pair.distorted, reference: pair.reference };
    this.showPair();
    for (const button of document.querySelectorAll("#explorer .pair-card")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.at) === pair.at));
    }
    const { view } = this.charts.scatter;
    if (view) view.signal("picked", pair.at).runAsync();
    this.part("status").textContent = wordsOf(this.database, this.series, pair).join("; ");
    this.keep();
  }

  /** Go to another point with the keyboard. */
  step(event) {
    const order = this.pairs
      .filter((pair) => pair.chosen)
      .sort((a, b) => a.value - b.value || a.opinion - b.opinion);
    const here = order.indexOf(this.pair);
    const next = {
      ArrowRight: here + 1,
      ArrowLeft: here < 0 ? 0 : here - 1,
      Home: 0,
      End: order.length - 1,
    }[event.key];
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey || !order.length) {
      return;
    }
    event.preventDefault();
    this.choose(order[Math.max(0, Math.min(next, order.length - 1))]);
  }

  draw() {
    this.drawing = Promise.all([this.drawScatter(), this.drawDepth(), this.drawModels()]);
    this.drawing.then(() => {
      document.getElementById("explorer").dataset.drawn = this.series.name;
    });
  }

  drawScatter() {
    const { database, series, pairs } = this;
    const model = {
      points: pairs,
      kinds: database.kinds.filter((kind) => pairs.some((pair) => pair.kind === kind)),
      curve: curveOf(series, pairs),
      xTitle: [series.name, `(${series.higherIsBetter ? "higher" : "lower"} is better)`],
      yTitle: `${database.what} (higher is ${database.higher})`,
      picked: this.pair ? this.pair.at : -1,
      description: `Scatter plot of ${database.what} against ${series.name} for ${pairs.length} pairs`,
    };
    const marks = pairs.filter((pair) => pair.chosen).map((pair) => ({
      x: pair.value, y: pair.opinion, words: wordsOf(database, series, pair), of: pair,
    }));
    return this.charts.scatter.draw(scatterOf, model, marks, (mark) => this.choose(mark.of));
  }

  drawDepth() {
    const { database, series } = this;
    const rows = database.depths[series.of];
    this.part("depth-part").hidden = !rows;
    if (!rows) return null;
    this.part("depth-heading").textContent = `Layers of ${series.of}, ${this.data.plain}`;
    const named = (layer) => database.series.find(
      (one) => one.of === series.of && one.layer === layer && one.readout === this.data.plain,
    );
    const layers = rows.map(([layer, depth, value, low, high]) => ({
      layer, depth, value, low, high, offered: Boolean(named(layer)),
      picked: series.layer === layer && series.readout === this.data.plain,
    }));
    const model = {
      layers,
      ceiling: database.ceiling,
      description: `Agreement of ${layers.length} layers of ${series.of} by depth`,
    };
    const marks = layers.map((one) => ({
      x: one.depth, y: one.value, of: named(one.layer),
      words: [
        one.layer, `SROCC ${written(one.value)}`, ...intervalOf(one),
      ],
    }));
    return this.charts.depth.draw(depthOf, model, marks, (mark) => {
      if (mark.of) this.change({ series: mark.of.name, of: null });
    });
  }

  drawModels() {
    const { database, series } = this;
    this.part("models-part").hidden = !database.models.length;
    if (!database.models.length) return null;
    this.part("models-hint").textContent = database.heldOut
      ? "Agreement (SROCC) where each reference is judged by the layer that agrees best on the others, with its interval."
      : "Agreement (SROCC) of the best layer, chosen and judged on the same images, which flatters it: there are too few references to hold any out.";
    const models = database.models.map(([name, value, low, high, layer, baseline]) => ({
      name, value, low, high, layer, baseline, picked: name === series.of,
    }));
    const model = {
      models,
      ceiling: database.ceiling,
      title: database.heldOut ? "agreement, held out (SROCC)" : "agreement of the best layer (SROCC)",
      description: `${database.heldOut ? "Held-out agreement" : "Agreement"} of ${models.length} networks and baselines`,
    };
    const marks = models.map((one) => ({
      x: one.value, y: one.name, of: one.name,
      words: [
        one.name, ...(one.layer ? [`best layer ${one.layer}`] : []),
        `SROCC ${written(one.value)}`, ...intervalOf(one),
      ],
    }));
    return this.charts.models.draw(modelsOf, model, marks, (mark) => {
      const is = (one) => one.of === mark.of;
      if (database.series.some(is)) this.change({ of: mark.of, series: null });
    });
  }

  /** Draw in the new colours, and keep them in the page's address if it holds the state. */
  recoloured() {
    this.draw();
    if (location.hash.startsWith(ADDRESS)) this.keep();
  }
}

/** Return a line about an interval; none if there is no interval. */
const intervalOf = ({ low, high }) => (
  low === null || high === null ? [] : [`interval ${written(low)} to ${written(high)}`]
);

/** Return points of a series' fitted curve over the values that are shown. */
function curveOf(series, pairs) {
  if (!series.curve || !pairs.length) return [];
  const [low, high, centre, scale] = series.curve;
  const values = pairs.map((pair) => pair.value);
  const first = Math.min(...values);
  const step = (Math.max(...values) - first) / 100;
  return Array.from({ length: 101 }, (_, at) => {
    const x = first + step * at;
    return { x, y: low + ((high - low) * (1 + Math.tanh((x - centre) / scale / 2))) / 2 };
  });
}

{
  const held = document.getElementById("explorer-data");
  if (held) new Explorer(readData(held));
}
