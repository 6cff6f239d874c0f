"use strict";
// The explorer's charts: their specifications in Vega-Lite, how they are drawn, and how a pointer
// finds what is nearest.

// Kinds differ in shape and in filling before they differ in colour: 26 without any.
const SHAPES = [
  "circle", "square", "triangle-up", "diamond", "cross", "triangle-down",
  "M-0.9,-0.6L-0.6,-0.9L0,-0.3L0.6,-0.9L0.9,-0.6L0.3,0L0.9,0.6L0.6,0.9L0,0.3L-0.6,0.9L-0.9,0.6L-0.3,0Z",
  "M-1,-0.35H1V0.35H-1Z", "triangle-right", "M-0.35,-1H0.35V1H-0.35Z", "triangle-left",
  "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z", "M-0.9,-0.9L0.9,-0.9L-0.9,0.9L0.9,0.9Z",
];
const LIGHT = ["#0072B2", "#B84E00", "#007F5C", "#AA4A8C", "#8F6200", "#6A5ACD", "#1f2328"];
const DARK = ["#5BB8F0", "#F0944A", "#45D0A0", "#E58AC9", "#D9B44A", "#ADA3FA", "#e6e8eb"];
const NEAR = 24; // pixels within which a pointer finds a mark

/** Return the page's colours, which depend on light or dark. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(name).trim();
  const isDark = named("--dark") === "1";
  return {
    ink: named("--ink"),
    soft: named("--soft"),
    line: named("--line"),
    paper: named("--paper"),
    accent: named("--link"),
    kinds: isDark ? DARK : LIGHT,
  };
}

function config(look, narrow) {
  const text = { labelColor: look.ink, titleColor: look.ink };
  return {
    background: "transparent",
    font: "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
    view: { stroke: null },
    axis: {
      ...text, labelFontSize: 12, titleFontSize: 13, titleFontWeight: 500, gridColor: look.line,
      gridOpacity: 0.6, domainColor: look.soft, tickColor: look.soft, labelLimit: 170, tickCount: 6,
      titleLimit: narrow ? 270 : 500,
    },
    legend: { ...text, labelFontSize: 12, labelLimit: 190, symbolStrokeWidth: 1.4 },
  };
}

const repeated = (list, length) => Array.from({ length }, (_, at) => list[at % list.length]);
const axis = (title, values) => ({
  title,
  scale: { zero: false, nice: false, padding: 10 },
  ...values,
});

const ring = (look) => ({
  type: "point", shape: "circle", size: 260, stroke: look.ink, strokeWidth: 2.5, aria: false,
});

/** Return a layer with a ring around the rows that are picked; none if there are none. */
function ringAround(rows, encoding, look) {
  const picked = rows.filter((row) => row.picked);
  return picked.length ? [{ data: { values: picked }, mark: ring(look), encoding }] : [];
}

/** Specify opinion against a series, with its curve beneath. */
function scatterOf(model, look, narrow) {
  const kinds = model.kinds;
  const several = kinds.length > 1;
  const x = { field: "value", type: "quantitative", ...axis(narrow ? model.xTitle : model.xTitle.join(" ")) };
  const y = { field: "opinion", type: "quantitative", ...axis(model.yTitle) };
  const of = (range) => ({
    field: "kind",
    type: "nominal",
    title: null,
    scale: { domain: kinds, range },
    legend: several ? { orient: "bottom", columns: narrow ? 2 : 3 } : null,
  });
  const lines = repeated(look.kinds, kinds.length);
  const filling = lines.map((colour, at) => (
    Math.floor(at / SHAPES.length) % 2 === 0 ? colour : "transparent"
  ));
  const many = model.points.length > 800;
  const curve = model.curve.length ? [{
    data: { values: model.curve },
    mark: { type: "line", strokeWidth: 1.25, color: look.soft, clip: true, aria: false },
    encoding: {
      x: { ...x, field: "x" },
      y: { ...y, field: "y" },
      order: { field: "x", type: "quantitative" },
    },
  }] : [];
  return {
    description: model.description,
    width: "container",
    height: narrow ? 300 : 400,
    params: [{ name: "picked", value: model.picked }],
    layer: [
      ...curve,
      {
        data: { values: model.points },
        mark: { type: "point", size: many ? 24 : 48, strokeWidth: 1.2, fillOpacity: 0.6, aria: false },
        encoding: {
          x,
          y,
          shape: of(repeated(SHAPES, kinds.length)),
          stroke: of(lines),
          fill: of(filling),
          opacity: { condition: { test: "datum.chosen", value: many ? 0.7 : 0.9 }, value: 0.12 },
        },
      },
      {
        data: { values: model.points },
        transform: [{ filter: "datum.at === picked" }],
        mark: ring(look),
        encoding: { x, y },
      },
    ],
  };
}

/** Return the layer that draws intervals; none if no row has one, which Vega warns of. */
const ifBounded = (rows, layer) => (rows.some((row) => row.low !== null) ? [layer] : []);

function ruleAt(ceiling, look) {
  if (ceiling === null) return [];
  return [{
    data: { values: [{ ceiling }] },
    mark: { type: "rule", strokeDash: [5, 4], stroke: look.soft, aria: false },
    encoding: {},
  }];
}

/** Specify the agreement of a network's layers by depth. */
function depthOf(model, look, narrow) {
  const x = {
    field: "depth", type: "quantitative", title: "relative depth (1 is the last layer)",
    scale: { domain: [0, 1.02], nice: false },
  };
  const y = { type: "quantitative", ...axis("agreement (SROCC)") };
  const ceiling = ruleAt(model.ceiling, look).map((layer) => ({
    ...layer,
    encoding: { y: { field: "ceiling", type: "quantitative" } },
  }));
  return {
    description: model.description,
    width: "container",
    height: narrow ? 220 : 260,
    data: { values: model.layers },
    layer: [
      ...ceiling,
      ...ifBounded(model.layers, {
        mark: { type: "area", color: look.accent, opacity: 0.16, aria: false },
        encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } },
      }),
      {
        mark: { type: "line", color: look.accent, strokeWidth: 1.5, aria: false },
        encoding: { x, y: { ...y, field: "value" } },
      },
      {
        mark: {
          type: "point", size: 50, stroke: look.accent, fill: look.paper, opacity: 1, aria: false,
        },
        encoding: {
          x,
          y: { ...y, field: "value" },
          fill: { condition: { test: "datum.offered", value: look.accent }, value: look.paper },
        },
      },
      ...ringAround(model.layers, { x, y: { ...y, field: "value" } }, look),
    ],
  };
}

/** Specify the held-out agreement of all networks and baselines. */
function modelsOf(model, look, narrow) {
  const names = model.models.map((one) => one.name);
  const y = {
    field: "name", type: "nominal", sort: names, scale: { domain: names },
    axis: { title: null, labelLimit: narrow ? 130 : 260, ticks: false, domain: false, grid: true },
  };
  const x = { type: "quantitative", ...axis(model.title) };
  const ceiling = ruleAt(model.ceiling, look).map((layer) => ({
    ...layer,
    encoding: { x: { field: "ceiling", type: "quantitative" } },
  }));
  return {
    description: model.description,
    width: "container",
    height: 20 * names.length,
    data: { values: model.models },
    layer: [
      ...ceiling,
      ...ifBounded(model.models, {
        mark: { type: "rule", stroke: look.soft, strokeWidth: 1.5, aria: false },
        encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, y },
      }),
      {
        mark: { type: "point", size: 60, opacity: 1, strokeWidth: 1.2, aria: false },
        encoding: {
          x: { ...x, field: "value" },
          y,
          shape: { condition: { test: "datum.baseline", value: "diamond" }, value: "circle" },
          stroke: { value: look.accent },
          fill: { condition: { test: "datum.baseline", value: look.paper }, value: look.accent },
        },
      },
      ...ringAround(model.models, { x: { ...x, field: "value" }, y }, look),
    ],
  };
}

/** A place of the page that shows one chart at a time. */
class Chart {
  constructor(element, tip) {
    this.element = element;
    this.tip = tip;
    this.turn = 0;
    this.view = null;
    this.marks = [];
    this.pick = () => {};
    element.addEventListener("pointermove", (event) => this.hover(event));
    element.addEventListener("pointerleave", () => this.hover(null));
    element.addEventListener("click", (event) => {
      const mark = this.nearest(event);
      if (mark) this.pick(mark);
    });
  }

  /**
   * Draw a specification. The marks are what a pointer can find: each has a place {x, y} in the
   * units of the axes and words to show; pick(mark) is called when one is clicked.
   */
  async draw(specify, model, marks, pick) {
    const turn = (this.turn += 1);
    const look = colours();
    const narrow = this.element.clientWidth < 520;
    const spec = specify(model, look, narrow);
    const options = {
      mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false,
      tooltip: false, config: config(look, narrow),
    };
    spec.autosize = { type: "fit-x", contains: "padding" };
    const inner = document.createElement("div");
    inner.className = "chart-inner";
    this.element.append(inner);
    const { view } = await vegaEmbed(inner, spec, options);
    // A later drawing may have overtaken this one.
    if (turn !== this.turn) {
      view.finalize();
      inner.remove();
      return;
    }
    if (this.view) this.view.finalize();
    for (const child of Array.from(this.element.children)) if (child !== inner) child.remove();
    this.view = view;
    this.marks = marks;
    this.pick = pick;
  }

  /** Return the mark that is nearest to a pointer, and its place on the screen. */
  nearest(event) {
    const svg = this.element.querySelector("svg");
    if (!this.view || !svg) return null;
    const box = svg.getBoundingClientRect();
    const padding = this.view.padding();
    const [left, top] = this.view.origin();
    const [x, y] = [this.view.scale("x"), this.view.scale("y")];
    const middle = y.bandwidth ? y.bandwidth() / 2 : 0;
    let best = null;
    let least = NEAR;
    for (const mark of this.marks) {
      const across = box.left + padding.left + left + x(mark.x);
      const down = box.top + padding.top + top + y(mark.y) + middle;
      // In a list of rows, the row is meant.
      const distance = y.bandwidth
        ? Math.abs(event.clientY - down)
        : Math.hypot(event.clientX - across, event.clientY - down);
      if (distance < least) [best, least] = [{ ...mark, across, down }, distance];
    }
    return best;
  }

  hover(event) {
    const mark = event && this.nearest(event);
    this.element.classList.toggle("over-mark", Boolean(mark));
    this.tip.hidden = !mark;
    if (!mark) return;
    this.tip.replaceChildren(
      ...mark.words.map((words) => {
        const line = document.createElement("div");
        line.textContent = words;
        return line;
      }),
    );
    const wide = document.documentElement.clientWidth;
    const { width, height } = this.tip.getBoundingClientRect();
    const left = Math.max(8, Math.min(mark.across - width / 2, wide - width - 8));
    const above = mark.down - height - 14;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${above < 8 ? mark.down + 14 : above}px`;
  }
}
