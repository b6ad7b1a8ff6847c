"use strict";
// Draws the lines of the farm: documented traffic between groups, and findings between groups or, in an open group, hosts.
const farmLines = (() => {
  const NS = "http://www.w3.org/2000/svg";
  // The distance between the ends of lines at the same place, and the most space for all of them, in pixels.
  const APART = 7;
  const SPREAD = 26;
  // A line inside a column bends this far to the side.
  const BULGE = 42;
  // The distance of a label from the first box.
  const LABEL = 40;
  const SYMBOLS = { unexpected: "!", missing: "✗" };

  const svg = (name, attributes, text) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  };

  const kind = (f) => (f.severity === "info" ? "" : f.verdict === "missing" ? "missing" : ["unexpected-port", "undocumented"].includes(f.verdict) ? "unexpected" : "");

  // Measures the positions of the groups, and of the hosts in open groups.
  const measure = (drawing) => {
    const frame = drawing.getBoundingClientRect();
    // The style sheet for paper makes the drawing smaller.
    const scale = frame.width / drawing.offsetWidth || 1;
    const middle = (element) => {
      const box = element.getBoundingClientRect();
      return (box.top + box.height / 2 - frame.top) / scale;
    };
    const columns = [...drawing.querySelectorAll(".column")];
    const groups = new Map();
    columns.forEach((column, number) => column.querySelectorAll(".group").forEach((group) => {
      const box = group.getBoundingClientRect();
      const hosts = new Map();
      if (group.open) group.querySelectorAll("li[data-name]").forEach((host) => hosts.set(host.dataset.name, middle(host)));
      groups.set(group.id.replace("group-", ""), {
        column: number,
        isLast: number === columns.length - 1,
        left: (box.left - frame.left) / scale,
        right: (box.right - frame.left) / scale,
        y: middle(group.querySelector("summary")),
        hosts,
      });
    }));
    return groups;
  };

  // Chooses the sides of two boxes that a line connects. Lines inside a column stay on one side.
  const sides = (a, b) => {
    if (a.column < b.column) return ["right", "left"];
    if (a.column > b.column) return ["left", "right"];
    return a.isLast && a.column > 0 ? ["left", "left"] : ["right", "right"];
  };

  const collect = (data, groups) => {
    const lines = new Map();
    data.findings.forEach((f) => {
      const type = kind(f);
      if (!type) return;
      f.groups[0].forEach((from) => f.groups[1].forEach((to) => {
        const [a, b] = [groups.get(String(from)), groups.get(String(to))];
        if (!a || !b) return;
        const hosts = [a.hosts.has(f.client_name) ? f.client_name : "", b.hosts.has(f.server_name) ? f.server_name : ""];
        const key = JSON.stringify([from, to, hosts, type]);
        const line = lines.get(key) || { from, to, type, ends: [a, b], ys: [a.hosts.get(hosts[0]) ?? a.y, b.hosts.get(hosts[1]) ?? b.y], findings: [] };
        line.findings.push(f);
        lines.set(key, line);
      }));
    });
    return [...lines.values()];
  };

  // Moves the ends of lines at the same place apart, in the order of their other ends, so that they do not cross.
  const spread = (lines) => {
    const places = new Map();
    lines.forEach((line) => {
      line.sides = sides(...line.ends);
      line.ends.forEach((end, which) => {
        const key = JSON.stringify([[line.from, line.to][which], line.sides[which], line.ys[which]]);
        places.set(key, [...(places.get(key) || []), { line, which, other: line.ys[1 - which] }]);
      });
    });
    lines.forEach((line) => { line.moved = [...line.ys]; });
    places.forEach((all) => {
      const step = Math.min(APART, SPREAD / all.length);
      all.sort((a, b) => a.other - b.other).forEach(({ line, which }, place) => { line.moved[which] += (place - (all.length - 1) / 2) * step; });
    });
  };

  // Returns the four points of a cubic curve between two boxes.
  const curve = ([a, b], [sideA, sideB], [ya, yb]) => {
    const start = [a[sideA] + (sideA === "right" ? 1 : -1), ya];
    const end = [b[sideB] + (sideB === "right" ? 3 : -3), yb];
    if (a.column === b.column) {
      const x = sideA === "right" ? Math.max(a.right, b.right) + BULGE : Math.min(a.left, b.left) - BULGE;
      const lift = a === b && Math.abs(ya - yb) < 4 ? 12 : 0;
      return [[start[0], ya - lift / 2], [x, ya - lift], [x, yb + lift], [end[0], yb + lift / 2]];
    }
    const bend = (end[0] - start[0]) / 2;
    return [start, [start[0] + bend, ya], [end[0] - bend, yb], end];
  };
  const path = ([p, q, r, s]) => "M" + p.map(Math.round) + "C" + [q, r, s].map((point) => point.map(Math.round)).join(" ");
  const at = (points, t) => [0, 1].map((axis) => {
    const [p, q, r, s] = points.map((point) => point[axis]);
    return p * (1 - t) ** 3 + 3 * q * t * (1 - t) ** 2 + 3 * r * t ** 2 * (1 - t) + s * t ** 3;
  });
  // Returns the place of a label: in the gap beside the first box, because other boxes may cover the middle of the line.
  const labelPlace = (points) => {
    let t = 0;
    while (t < 0.5 && Math.abs(at(points, t)[0] - points[0][0]) < LABEL) t += 0.01;
    return at(points, t).map(Math.round);
  };

  const address = (line) => {
    const [first] = line.findings;
    if (line.findings.length === 1) return "#findings?open=" + first.id;
    const query = new URLSearchParams({ from: first.client_roles[0] || "none", to: first.server_roles[0] || "none" });
    return "#findings?" + query;
  };

  const drawFinding = (line, clean) => {
    const points = curve(line.ends, line.sides, line.moved);
    const count = line.findings.length;
    const words = (count > 1 ? count + " findings, for example: " : "") + clean(line.findings[0].message);
    // The links are not in the tab order, because the boxes and the table of findings have them, too.
    const link = svg("a", { href: address(line), class: line.type, tabindex: "-1", "data-ends": line.from + " " + line.to });
    const [x, y] = labelPlace(points);
    link.append(
      svg("title", {}, words),
      svg("path", { class: "bad " + line.type, d: path(points), "marker-end": "url(#arrow-" + line.type + ")" }),
      svg("path", { class: "wide", d: path(points) }),
      svg("text", { x, y: y + 4, "text-anchor": "middle" }, SYMBOLS[line.type] + (count > 1 ? " " + count : "")),
    );
    return link;
  };

  const draw = (data, clean) => {
    const drawing = document.querySelector("#graph .drawing");
    if (!drawing) return;
    const groups = measure(drawing);
    const picture = svg("svg", { class: "lines", "aria-hidden": "true", width: drawing.offsetWidth, height: drawing.offsetHeight });
    const arrows = svg("defs", {});
    Object.keys(SYMBOLS).forEach((type) => {
      const marker = svg("marker", { id: "arrow-" + type, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 5, markerHeight: 5, orient: "auto" });
      marker.append(svg("path", { class: "arrow " + type, d: "M0 0L8 4L0 8z" }));
      arrows.append(marker);
    });
    picture.append(arrows);
    data.documented.forEach(([from, to]) => {
      const ends = [groups.get(String(from)), groups.get(String(to))];
      if (!ends[0] || !ends[1] || from === to) return;
      picture.append(svg("path", { class: "documented", "data-ends": from + " " + to, d: path(curve(ends, sides(...ends), ends.map((end) => end.y))) }));
    });
    const lines = collect(data, groups);
    spread(lines);
    // The worst findings come first in the data, and are drawn last, on top.
    lines.reverse().forEach((line) => picture.append(drawFinding(line, clean)));
    const before = drawing.querySelector("svg.lines");
    if (before) before.remove();
    drawing.prepend(picture);
  };

  // Fades all lines except those of a group; shows all lines without one.
  const focus = (group) => {
    const number = group && group.id.replace("group-", "");
    document.querySelectorAll("#graph svg.lines [data-ends]").forEach((line) => {
      line.classList.toggle("faded", Boolean(group) && !line.dataset.ends.split(" ").includes(number));
    });
  };

  return { draw, focus };
})();
