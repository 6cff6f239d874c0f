"use strict";
// The explorer's data: unpacked, and questions about a series on the pairs of a kind.

const MISSING = 65535;

/** Return the numbers of [low, high, base64 of 16-bit steps]; NaN where one is missing. */
function unpacked([low, high, text]) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 2 }, (_, at) => {
    const step = view.getUint16(2 * at, true);
    return step === MISSING ? NaN : low + ((high - low) * step) / (MISSING - 1);
  });
}

/** Return the rank of each value from 1 for the largest; equal values share their mean rank. */
function ranksFromBest(values) {
  const order = values.map((_, at) => at).sort((a, b) => values[b] - values[a]);
  const ranks = new Array(values.length);
  for (let first = 0; first < order.length; ) {
    let end = first + 1;
    while (end < order.length && values[order[end]] === values[order[first]]) end += 1;
    for (let at = first; at < end; at += 1) ranks[order[at]] = (first + 1 + end) / 2;
    first = end;
  }
  return ranks;
}

/** Return the data of a page with what is packed unpacked. */
function readData(element) {
  const data = JSON.parse(element.textContent);
  for (const database of data.databases) {
    database.opinion = unpacked(database.opinion);
    database.hasPictures = Object.keys(database.pictured).length > 0;
    for (const series of database.series) series.values = unpacked(series.values);
  }
  return data;
}

/**
 * Return the pairs of a series that have a value: their places, names and numbers, and for those of
 * a kind of distortion (all, if it is empty) their ranks by people and by the metric.
 */
function pairsOf(database, series, kind) {
  const pairs = [];
  database.opinion.forEach((opinion, at) => {
    if (Number.isNaN(series.values[at])) return;
    const of = database.kinds[database.kind[at]];
    pairs.push({
      at,
      value: series.values[at],
      opinion,
      kind: of,
      reference: database.references[database.reference[at]],
      distorted: database.distorted[at],
      pictures: database.pictured[at] || null,
      chosen: kind === "" || of === kind,
    });
  });
  const ranked = pairs.filter((pair) => pair.chosen);
  const up = database.higher === "better" ? 1 : -1;
  const byPeople = ranksFromBest(ranked.map((pair) => up * pair.opinion));
  const sign = series.higherIsBetter ? 1 : -1;
  const byMetric = ranksFromBest(ranked.map((pair) => sign * pair.value));
  ranked.forEach((pair, number) => {
    pair.byPeople = byPeople[number];
    pair.byMetric = byMetric[number];
    pair.among = ranked.length;
  });
  return pairs;
}

/** Return the pairs that people rank higher than the metric does, and the reverse, widest first. */
function disputesOf(pairs) {
  const ranked = pairs.filter((pair) => pair.chosen);
  const gap = (pair) => pair.byMetric - pair.byPeople;
  return {
    better: ranked.filter((pair) => gap(pair) > 0).sort((a, b) => gap(b) - gap(a)),
    worse: ranked.filter((pair) => gap(pair) < 0).sort((a, b) => gap(a) - gap(b)),
  };
}

/** Write a number with a few digits, and a true minus sign. */
function written(number, digits = 3) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  return number.toFixed(digits).replace("-", "−");
}

/** Write a measured value with four significant digits. */
function measured(number) {
  const size = Math.abs(number);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6)
    ? number.toExponential(3)
    : String(Number(number.toPrecision(4)));
  return text.replace("-", "−");
}
