"use strict";
// Clicking a column's heading sorts its table: ascending, then descending. Rows without a number
// come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const body = table.tBodies[0];
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.classList.contains("number");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent.trim();
      return cell.dataset.key === undefined ? NaN : Number(cell.dataset.key);
    };
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = Array.from(body.rows, (row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        if (!numeric) return (up ? 1 : -1) * collator.compare(a, b);
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return up ? a - b : b - a;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
