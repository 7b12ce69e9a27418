// A mesh viewer without dependencies: painter's algorithm on a canvas. Drag, or arrow keys; + and - zoom.
function fewstepMesh(canvas, data) {
  const raw = (text, kind) => new kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const points = raw(data.vertices, Float32Array), faces = raw(data.faces, Uint32Array), colors = raw(data.colors, Uint8Array);
  const count = faces.length / 3, order = Array.from({ length: count }, (_, i) => i), depth = new Float32Array(count);
  const turned = new Float32Array(points.length);
  let yaw = 0.6, pitch = 0.25, zoom = 1, drag = null, waiting = false;
  function draw() {
    waiting = false;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const g = canvas.getContext("2d"), scale = 0.48 * zoom * Math.min(canvas.width, canvas.height);
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    for (let i = 0; i < points.length; i += 3) {
      const x = cy * points[i] + sy * points[i + 2], z = -sy * points[i] + cy * points[i + 2], y = points[i + 1];
      const up = cp * y - sp * z, near = sp * y + cp * z, far = 2.6 / (2.6 - 0.8 * near);
      turned[i] = canvas.width / 2 + scale * x * far; turned[i + 1] = canvas.height / 2 - scale * up * far; turned[i + 2] = near;
    }
    for (let f = 0; f < count; f++) {
      depth[f] = turned[3 * faces[3 * f] + 2] + turned[3 * faces[3 * f + 1] + 2] + turned[3 * faces[3 * f + 2] + 2];
    }
    order.sort((a, b) => depth[a] - depth[b]);
    g.clearRect(0, 0, canvas.width, canvas.height);
    for (const f of order) {
      const a = 3 * faces[3 * f], b = 3 * faces[3 * f + 1], c = 3 * faces[3 * f + 2];
      const facing = (turned[b] - turned[a]) * (turned[c + 1] - turned[a + 1]) - (turned[c] - turned[a]) * (turned[b + 1] - turned[a + 1]);
      const shade = 0.75 + 0.25 * Math.min(1, (depth[f] / 3 + 1) / 2);
      const mix = (k) => Math.round((shade * (colors[a + k] + colors[b + k] + colors[c + k])) / 3);
      if (facing === 0) continue;
      g.fillStyle = g.strokeStyle = `rgb(${mix(0)},${mix(1)},${mix(2)})`;
      g.beginPath(); g.moveTo(turned[a], turned[a + 1]); g.lineTo(turned[b], turned[b + 1]); g.lineTo(turned[c], turned[c + 1]);
      g.closePath(); g.fill(); g.stroke();
    }
  }
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  canvas.addEventListener("pointerdown", (e) => { drag = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", (e) => {
    if (!drag) return;
    yaw += 0.01 * (e.clientX - drag[0]);
    pitch = Math.max(-1.5, Math.min(1.5, pitch + 0.01 * (e.clientY - drag[1])));
    drag = [e.clientX, e.clientY]; later();
  });
  canvas.addEventListener("keydown", (e) => {
    const turn = { ArrowLeft: [-0.15, 0, 1], ArrowRight: [0.15, 0, 1], ArrowUp: [0, -0.15, 1], ArrowDown: [0, 0.15, 1], "+": [0, 0, 1.15], "-": [0, 0, 0.87] }[e.key];
    if (!turn) return;
    yaw += turn[0]; pitch = Math.max(-1.5, Math.min(1.5, pitch + turn[1])); zoom *= turn[2];
    e.preventDefault(); later();
  });
  new ResizeObserver(later).observe(canvas);
  draw();
}
