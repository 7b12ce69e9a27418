/* Sorts and filters the table of designs, and opens a trace in the molecule viewer. No library, no network. */
(function () {
  "use strict";
  var table = document.getElementById("designs"), body = table.tBodies[0];
  var heads = Array.from(table.tHead.rows[0].cells), rows = Array.from(body.rows);
  var columns = {};
  heads.forEach(function (head, i) { if (head.dataset.column) columns[head.dataset.column] = i; });

  function number(row, i) {
    var text = row.cells[i].dataset.value;
    return text === undefined || text === "" ? NaN : Number(text);
  }

  function said(row, i) { return row.cells[i].textContent.trim(); }

  /* Rows that lack a number come last, whichever way the others are sorted; equal rows keep their order. */
  function sort(i, way) {
    var numeric = rows.length && rows[0].cells[i].dataset.value !== undefined;
    var order = rows.map(function (row, at) { return [numeric ? number(row, i) : said(row, i), at, row]; });
    order.sort(function (a, b) {
      if (numeric && (isNaN(a[0]) || isNaN(b[0]))) return isNaN(a[0]) - isNaN(b[0]) || a[1] - b[1];
      return way * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) || a[1] - b[1];
    });
    body.append.apply(body, order.map(function (entry) { return entry[2]; }));
  }

  heads.forEach(function (head, i) {
    var button = head.querySelector("button");
    if (!button) return;
    button.onclick = function () {
      var way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      sort(i, way);
    };
  });

  var tests = {
    "<": function (a, b) { return a < b; }, "<=": function (a, b) { return a <= b; },
    ">": function (a, b) { return a > b; }, ">=": function (a, b) { return a >= b; },
    "=": function (a, b) { return a === b; }
  };

  /* A word of the filter as a question to a row; null while a bound is still being typed. */
  function question(word) {
    var bound = /^([a-z_]+)(<=|>=|<|>|=)(.*)$/i.exec(word), i = bound && columns[bound[1].toLowerCase()];
    if (!bound || i === undefined) return function (row) {
      return (said(row, 0) + " " + said(row, columns.verdict)).toLowerCase().indexOf(word.toLowerCase()) >= 0;
    };
    if (bound[3] === "" || isNaN(Number(bound[3]))) return null;
    return function (row) { return tests[bound[2]](number(row, i), Number(bound[3])); };
  }

  var filter = document.getElementById("filter"), passing = document.getElementById("passing");
  function show() {
    var asked = filter.value.split(/\s+/).filter(Boolean).map(question).filter(Boolean), count = 0;
    rows.forEach(function (row) {
      var kept = (!passing.checked || row.className === "passed") && asked.every(function (q) { return q(row); });
      row.hidden = !kept;
      count += kept;
    });
    document.getElementById("told").textContent = count + " of " + rows.length + " shown";
  }
  filter.oninput = passing.onchange = show;

  var dialog = document.getElementById("turn"), stage = document.getElementById("stage");
  body.addEventListener("click", function (event) {
    var button = event.target.closest("button.look");
    if (!button) return;
    var flat = button.dataset.trace.split(",").map(function (v) { return v / 10; }), chain = [];
    for (var i = 0; i < flat.length; i += 3) chain.push(flat.slice(i, i + 3));
    var name = button.getAttribute("aria-label").replace("Turn ", "");
    document.getElementById("turned").textContent = name;
    var host = document.createElement("div");
    host.className = "molecule";
    host.setAttribute("data-label", name);
    host.setAttribute("data-chains", JSON.stringify([chain]));
    host.setAttribute("data-structures", JSON.stringify([button.dataset.structure]));
    stage.replaceChildren(host);
    dialog.showModal();
    document.dispatchEvent(new Event("molecules"));
  });
  show();
})();
