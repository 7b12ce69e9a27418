/* A molecule viewer in one canvas: CA traces, rotated by mouse, touch and keyboard. No library, no network.
   Every element with the attribute data-chains (a JSON list of chains, each a list of [x, y, z] in angstrom)
   becomes a viewer; data-structures may hold a string for each chain, H, E or C for each residue.
   Elements that are added later become viewers at the event "molecules" of the document. */
(function () {
  "use strict";
  var HELP = "arrow keys rotate, plus and minus zoom, page up and page down change the chain, 0 resets";
  var INK = { H: "338,80%", E: "46,90%", C: "210,14%" }, BROAD = { H: 1.5, E: 1.3, C: 0.7 };

  function multiply(a, b) {
    var out = [];
    for (var i = 0; i < 3; i++)
      for (var j = 0; j < 3; j++)
        out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    return out;
  }

  function turn(x, y) {
    var cx = Math.cos(x), sx = Math.sin(x), cy = Math.cos(y), sy = Math.sin(y);
    return multiply([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]);
  }

  /* Between the residues, a Catmull-Rom curve: eyes follow a smooth ribbon better than a zigzag. */
  function smooth(points, kinds, pieces) {
    var out = [];
    for (var i = 0; i + 1 < points.length; i++) {
      var p = [points[Math.max(0, i - 1)], points[i], points[i + 1], points[Math.min(points.length - 1, i + 2)]];
      for (var k = 0; k < pieces; k++)
        out.push({ at: curve(p, k / pieces), share: (i + k / pieces) / (points.length - 1), kind: kinds[k < pieces / 2 ? i : i + 1] });
    }
    out.push({ at: points[points.length - 1], share: 1, kind: kinds[points.length - 1] });
    return out;
  }

  function curve(p, t) {
    return [0, 1, 2].map(function (c) {
      var a = p[0][c], b = p[1][c], d = p[2][c], e = p[3][c];
      return 0.5 * (2 * b + (d - a) * t + (2 * a - 5 * b + 4 * d - e) * t * t + (3 * b - a - 3 * d + e) * t * t * t);
    });
  }

  function viewer(host) {
    var chains = JSON.parse(host.getAttribute("data-chains"));
    var kinds = JSON.parse(host.getAttribute("data-structures") || "[]");
    var name = host.getAttribute("data-label");
    var state = { spin: turn(0.25, 0.25), zoom: 1, shown: 0, all: false, byKind: kinds.length > 0 };
    var canvas = document.createElement("canvas"), bar = document.createElement("div"), said = document.createElement("span");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.style.cssText = "width:100%;aspect-ratio:1;touch-action:none;cursor:grab;border-radius:8px;background:#10151c";
    said.setAttribute("aria-live", "polite");
    bar.style.cssText = "display:flex;flex-wrap:wrap;gap:.3em .6em;align-items:center";
    if (chains.length > 1) bar.append(step("\u25c0", "previous chain", -1), said, step("\u25b6", "next chain", 1), toggle("together", "all"));
    else bar.append(said);
    if (kinds.length) bar.append(toggle("helices and strands", "byKind"));
    host.append(canvas, bar);

    function button(text) {
      var made = document.createElement("button");
      made.type = "button";
      made.textContent = text;
      return made;
    }

    function step(sign, label, by) {
      var made = button(sign);
      made.setAttribute("aria-label", label + " of " + name);
      made.onclick = function () { show(state.shown + by); };
      return made;
    }

    function toggle(text, what) {
      var made = button(text);
      made.onclick = function () { state[what] = !state[what]; tell(); };
      function tell() { made.setAttribute("aria-pressed", state[what]); made.style.opacity = state[what] ? 1 : 0.6; if (canvas.isConnected) show(state.shown); }
      tell();
      return made;
    }

    function show(which) {
      state.shown = (which + chains.length) % chains.length;
      var chain = chains[state.shown];
      said.textContent = state.all ? chains.length + " chains" : (chains.length > 1 ? "chain " + (state.shown + 1) + " of " + chains.length + ", " : "") + chain.length + " residues";
      canvas.setAttribute("aria-label", name + ": " + said.textContent + "; " + HELP);
      draw();
    }

    function draw() {
      var size = canvas.clientWidth || 300, scale = window.devicePixelRatio || 1;
      canvas.width = canvas.height = Math.round(size * scale);
      var pen = canvas.getContext("2d"), shown = state.all ? chains.map(function (_, i) { return i; }) : [state.shown];
      var far = Math.max.apply(null, shown.map(function (i) { return extent(chains[i]); }));
      var unit = (0.46 * canvas.width * state.zoom) / far, half = canvas.width / 2, m = state.spin, pieces = [];
      shown.forEach(function (i) {
        var dots = smooth(chains[i], kinds[i] || "", state.all ? 3 : 6).map(function (q) {
          var p = q.at;
          return {
            x: half + unit * (m[0] * p[0] + m[1] * p[1] + m[2] * p[2]),
            y: half - unit * (m[3] * p[0] + m[4] * p[1] + m[5] * p[2]),
            z: (m[6] * p[0] + m[7] * p[1] + m[8] * p[2]) / far,
            share: q.share,
            kind: q.kind
          };
        });
        for (var k = 1; k < dots.length; k++) pieces.push([dots[k - 1], dots[k]]);
      });
      pieces.sort(function (a, b) { return a[0].z - b[0].z; });
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pieces.forEach(function (piece) { segment(pen, piece[0], piece[1], state.all ? 0.5 * unit : unit); });
    }

    function extent(chain) {
      var spread = 0;
      chain.forEach(function (p) { spread += p[0] * p[0] + p[1] * p[1] + p[2] * p[2]; });
      return Math.max(1, 1.7 * Math.sqrt(spread / chain.length));
    }

    function segment(pen, a, b, unit) {
      var near = Math.min(1, Math.max(0, (a.z + 1) / 2)), broad = state.byKind ? BROAD[a.kind] : 1;
      var width = Math.max(1.5, 0.9 * broad * unit * (0.75 + 0.5 * near));
      var color = "hsl(" + (state.byKind ? INK[a.kind] : 240 - 240 * a.share + ",75%") + "," + (28 + 34 * near) + "%)";
      /* A dark border shows which strand passes in front; its ends are cut, or it would cross the strand itself. */
      [["#10151c", width * 1.5, "butt"], [color, width, "round"]].forEach(function (pass) {
        pen.strokeStyle = pass[0];
        pen.lineWidth = pass[1];
        pen.lineCap = pass[2];
        pen.beginPath();
        pen.moveTo(a.x, a.y);
        pen.lineTo(b.x, b.y);
        pen.stroke();
      });
    }

    function rotate(x, y) {
      state.spin = multiply(turn(x, y), state.spin);
      draw();
    }

    function zoom(by) {
      state.zoom = Math.min(8, Math.max(0.3, state.zoom * by));
      draw();
    }

    var fingers = new Map(), gap = 0;
    canvas.addEventListener("pointerdown", function (e) {
      canvas.setPointerCapture(e.pointerId);
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      gap = 0;
    });
    canvas.addEventListener("pointermove", function (e) {
      var before = fingers.get(e.pointerId);
      if (!before) return;
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      if (fingers.size === 1) return rotate((e.clientY - before[1]) / 120, (e.clientX - before[0]) / 120);
      var two = Array.from(fingers.values()), now = Math.hypot(two[0][0] - two[1][0], two[0][1] - two[1][1]);
      if (gap) zoom(now / gap);
      gap = now;
    });
    ["pointerup", "pointercancel"].forEach(function (kind) {
      canvas.addEventListener(kind, function (e) { fingers.delete(e.pointerId); gap = 0; });
    });
    canvas.addEventListener("wheel", function (e) {
      if (!e.ctrlKey && document.activeElement !== canvas) return;
      e.preventDefault();
      zoom(Math.exp(-e.deltaY / 400));
    }, { passive: false });
    var keys = {
      ArrowLeft: function () { rotate(0, -0.15); }, ArrowRight: function () { rotate(0, 0.15); },
      ArrowUp: function () { rotate(-0.15, 0); }, ArrowDown: function () { rotate(0.15, 0); },
      "+": function () { zoom(1.15); }, "=": function () { zoom(1.15); }, "-": function () { zoom(1 / 1.15); },
      PageUp: function () { show(state.shown - 1); }, PageDown: function () { show(state.shown + 1); },
      "0": function () { state.spin = turn(0.25, 0.25); state.zoom = 1; draw(); }
    };
    canvas.addEventListener("keydown", function (e) {
      if (!keys[e.key] || e.ctrlKey || e.metaKey) return;
      e.preventDefault();
      keys[e.key]();
    });
    if (window.ResizeObserver) new ResizeObserver(draw).observe(canvas);
    show(0);
  }

  function start() {
    document.querySelectorAll("[data-chains]:not([data-ready])").forEach(function (host) {
      host.setAttribute("data-ready", "");
      viewer(host);
    });
  }
  document.addEventListener("molecules", start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
