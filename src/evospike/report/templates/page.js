// Draws the figures of the page in the colours of its theme, and lets the reader change the theme.
(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const config = { displayModeBar: false, displaylogo: false, responsive: true, scrollZoom: false, doubleClick: false };

  // what the points of a figure say when pointed at: a trace with a `meta` names a table, its `customdata` the rows of it
  const spoken = (value) =>
    Math.abs(value) < 1e-4 ? String(value) : value.toLocaleString("en", { maximumSignificantDigits: 6 });
  const told = ({ generations, numbers, reasons, failures, terms }) =>
    generations.map((generation, row) =>
      [
        `generation ${generation}, candidate ${numbers[row]}`,
        ...(row in failures ? [reasons[failures[row]]] : []),
        ...terms.filter(([, values]) => values[row] !== null).map(([name, values]) => `${name} ${spoken(values[row])}`),
      ].join("<br>"),
    );
  const texts = {};
  for (const { layout } of Object.values(figures)) {
    for (const [name, table] of Object.entries(layout.meta ?? {})) texts[name] = told(table);
    delete layout.meta;
  }
  for (const trace of Object.values(figures).flatMap(({ data }) => data)) {
    if (trace.meta) trace.text = trace.customdata.map((row) => texts[trace.meta][row]);
  }

  const remembered = () => {
    try {
      return localStorage.getItem("evospike-theme");
    } catch {
      return null; // storage is closed to files in some browsers
    }
  };
  const remember = (theme) => {
    try {
      localStorage.setItem("evospike-theme", theme);
    } catch {
      // the choice then lasts as long as the page
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  // `@name` under a key that ends in "color" or "colorscale" stands for the custom property `--name`
  const colour = (value, style) => {
    if (Array.isArray(value)) return value.map((item) => colour(item, style));
    const named = typeof value === "string" && /^@[a-z0-9]+$/.test(value);
    return named ? style.getPropertyValue(`--${value.slice(1)}`).trim() : value;
  };
  const themed = (value, style) => {
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => {
        const plain = item === null || typeof item !== "object" || Array.isArray(item);
        return [key, /color(scale)?$/.test(key) && plain ? colour(item, style) : themed(item, style)];
      }),
    );
  };

  const draw = () => {
    const style = getComputedStyle(root);
    button.textContent = isDark() ? "Light mode" : "Dark mode";
    for (const [name, figure] of Object.entries(figures)) {
      const { data, layout } = themed(figure, style);
      window.Plotly.react(document.getElementById(`chart-${name}`), data, layout, config);
    }
  };

  // a table that is cut at the side has a line over it that says so
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth + 1;
    }
  });
  for (const table of document.querySelectorAll(".hint + .scroll")) widths.observe(table);

  // a menu beside a figure decides which one of its traces is seen
  for (const menu of document.querySelectorAll("select[data-figure]")) {
    const { data, layout } = figures[menu.dataset.figure];
    menu.selectedIndex = 0;
    menu.addEventListener("change", () => {
      data.forEach((trace, place) => (trace.visible = place === menu.selectedIndex));
      layout.xaxis.title.text = data[menu.selectedIndex].name;
      draw();
    });
  }

  if (["dark", "light"].includes(remembered())) root.dataset.theme = remembered();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    draw();
  });
  system.addEventListener("change", draw);
  draw();
  // where the library measures its texts, out of sight
  document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");
})();
