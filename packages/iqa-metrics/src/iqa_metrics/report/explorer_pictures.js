"use strict";
// The explorer's pairs as pictures and words.

/** Return an element with a class and children, which may be texts. */
function made(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** Return a name that may be broken after its separators. */
function breakable(name) {
  const parts = name.split(/(?<=[/_.-])/).flatMap((part) => [part, document.createElement("wbr")]);
  return made("span", "", ...parts);
}

/** Return a pair's two thumbnails side by side, or a line that says that there are none of it. */
function picturesOf(data, database, pair) {
  // Without any pictures, the notes below say why, once.
  if (!database.hasPictures) return "";
  if (!pair.pictures) return made("span", "no-pictures", "no pictures of this pair here");
  const shown = made("span", "pictures");
  const names = ["reference", "distorted"];
  pair.pictures.forEach((place, which) => {
    const image = document.createElement("img");
    image.src = `data:${data.mediaType};base64,${data.pictures[place]}`;
    image.alt = `${names[which]} image, ${pair[names[which]]}`;
    image.decoding = "async";
    shown.append(made("span", "picture", image, made("span", "picture-name", names[which])));
  });
  return shown;
}

/** Return who ranks the pairs of a database beside the metric. */
const judgeOf = (database) => (database.rated ? "people" : "severity");

/** Return what is known about a pair, as lines of words. */
function wordsOf(database, series, pair) {
  const kind = pair.kind ? [`distortion: ${pair.kind}`] : [];
  const ranks = pair.among
    ? [`rank by ${judgeOf(database)} ${written(pair.byPeople, 0)}, by the metric ${written(pair.byMetric, 0)}, of ${pair.among}`]
    : [];
  return [
    pair.distorted,
    ...kind,
    `${database.what} ${measured(pair.opinion)}, ${series.name} ${measured(pair.value)}`,
    ...ranks,
  ];
}

/** Fill an element with a pair: its pictures, its names and its numbers. */
function showPair(element, data, database, series, pair) {
  if (!pair) {
    element.replaceChildren(made("p", "explorer-hint", "No pair has a value here."));
    return;
  }
  const facts = [
    ["reference", breakable(pair.reference)],
    ["distorted", breakable(pair.distorted)],
    ["distortion", pair.kind || "–"],
    [database.what, `${measured(pair.opinion)} (higher is ${database.higher})`],
    [
      series.layer ? "distance" : "value",
      `${measured(pair.value)} (${series.higherIsBetter ? "higher" : "lower"} is better)`,
    ],
  ];
  if (pair.among) {
    facts.push([`rank by ${judgeOf(database)}`, `${written(pair.byPeople, 0)} of ${pair.among}`]);
    facts.push(["rank by metric", `${written(pair.byMetric, 0)} of ${pair.among}`]);
  }
  const list = made("dl", "pair-facts");
  for (const [name, value] of facts) list.append(made("dt", "", name), made("dd", "", value));
  element.replaceChildren(picturesOf(data, database, pair), list);
}

/** Fill a list with pairs as buttons; pick(pair) is called when one is pressed. */
function listPairs(list, data, database, series, pairs, picked, pick) {
  list.replaceChildren(
    ...pairs.map((pair) => {
      const button = made("button", "pair-card", picturesOf(data, database, pair));
      button.type = "button";
      button.dataset.at = pair.at;
      button.setAttribute("aria-pressed", String(pair.at === picked));
      button.append(
        made("span", "pair-name", breakable(pair.distorted.split("/").pop())),
        made(
          "span",
          "pair-ranks",
          `${judgeOf(database)} ${written(pair.byPeople, 0)}, metric ${written(pair.byMetric, 0)} of ${pair.among}`,
        ),
        made(
          "span",
          "pair-numbers",
          `${pair.kind ? `${pair.kind}; ` : ""}${database.what} ${measured(pair.opinion)}, ${series.layer ? "distance" : "value"} ${measured(pair.value)}`,
        ),
      );
      button.addEventListener("click", () => pick(pair));
      return made("li", "", button);
    }),
  );
  if (!pairs.length) list.append(made("li", "explorer-hint", "none"));
}
