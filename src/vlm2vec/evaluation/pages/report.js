// Sorts a table by the column whose head is clicked, the largest first; what has no number goes last.
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const turn = head.ariaSort === "descending" ? 1 : -1;
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  head.ariaSort = turn === 1 ? "ascending" : "descending";
  const value = row => parseFloat(row.cells[head.cellIndex].dataset.value ?? "nan");
  const order = (a, b) => isNaN(a) - isNaN(b) || turn * (a - b) || 0;
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
};
