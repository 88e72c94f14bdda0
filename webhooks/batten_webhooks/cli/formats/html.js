"use strict";
{
  const root = document.documentElement;
  const form = document.getElementById("filter");
  const fields = ["q", "namespace", "rule", "outcome"].map((name) => form.elements[name]);
  const count = document.getElementById("count");
  const nothing = document.getElementById("nothing");
  const opener = document.getElementById("open");
  const number = new Intl.NumberFormat("en");

  const workloads = [...document.querySelectorAll(".list > li")].map((element) => ({
    element,
    details: element.querySelector("details"),
    group: element.closest(".group"),
    outcome: element.dataset.outcome,
    rules: new Map(
      element.dataset.rules.split(" ").filter(Boolean).map((pair) => {
        const colon = pair.lastIndexOf(":");
        return [pair.slice(0, colon), pair.slice(colon + 1)];
      }),
    ),
    text: null,
  }));

  const textOf = (workload) => {
    workload.text ??= `${workload.group.dataset.namespace} ${workload.element.textContent}`.toLowerCase();
    return workload.text;
  };

  // With a rule chosen, the outcome asked for is the one under that rule.
  const fits = (workload, words, namespace, rule, outcome) => {
    if (namespace && workload.group.dataset.namespace !== namespace) return false;
    if (rule && !outcome && !workload.rules.has(rule)) return false;
    const found = rule ? (workload.rules.get(rule) ?? "compliant") : workload.outcome;
    if (outcome && found !== outcome) return false;
    return words.every((word) => textOf(workload).includes(word));
  };

  const apply = () => {
    const [text, namespace, rule, outcome] = fields.map((field) => field.value);
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = new Map();
    let shown = 0;
    for (const workload of workloads) {
      const fit = fits(workload, words, namespace, rule, outcome);
      workload.element.hidden = !fit;
      groups.set(workload.group, groups.get(workload.group) || fit);
      shown += fit;
    }
    for (const [group, fit] of groups) group.hidden = !fit;
    nothing.hidden = shown > 0;
    count.textContent = `Showing ${number.format(shown)} of ${number.format(workloads.length)} workloads`;
    tellOpener();
  };

  const visible = () => workloads.filter((workload) => !workload.element.hidden);
  const tellOpener = () => {
    const all = visible();
    opener.textContent = all.length && all.every(({ details }) => details.open) ? "Close all" : "Open all";
  };

  const toHash = () => {
    const state = new URLSearchParams();
    for (const { name, value } of fields) if (value) state.set(name, value);
    return `#${state}`;
  };
  const fromHash = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    const known = fields.some(({ name }) => state.has(name));
    if (!known && location.hash.length > 1) return false;
    for (const field of fields) field.value = state.get(field.name) ?? "";
    for (const field of fields) if (field.selectedIndex === -1) field.value = "";
    apply();
    return known;
  };
  const toWorkloads = () => {
    const section = document.getElementById("workloads");
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  };

  let pending;
  const changed = () => {
    apply();
    history.replaceState(null, "", toHash());
  };
  form.addEventListener("input", () => {
    clearTimeout(pending);
    pending = setTimeout(changed, 120);
  });
  form.addEventListener("reset", () => setTimeout(changed));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => fromHash() && toWorkloads());

  opener.addEventListener("click", () => {
    const open = opener.textContent === "Open all";
    for (const { details } of visible()) details.open = open;
    tellOpener();
  });

  for (const element of document.querySelectorAll("[data-filter]")) {
    const link = document.createElement("a");
    link.href = `#${element.dataset.filter}`;
    link.title = "Show its workloads";
    link.append(...element.childNodes);
    element.append(link);
  }

  const copy = async (button, code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  const addCopyButtons = (details) => {
    for (const lines of details.querySelectorAll("pre")) {
      if (lines.parentElement.className === "lines") continue;
      const frame = document.createElement("div");
      const button = document.createElement("button");
      frame.className = "lines";
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-live", "polite");
      button.addEventListener("click", () => copy(button, lines.firstChild));
      lines.replaceWith(frame);
      frame.append(lines, button);
    }
  };
  document.addEventListener(
    "toggle",
    ({ target }) => {
      if (target.open) addCopyButtons(target);
    },
    true,
  );

  const theme = document.getElementById("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const tellTheme = () => (theme.textContent = isDark() ? "Light theme" : "Dark theme");
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tellTheme();
    try {
      localStorage.setItem("batten-theme", root.dataset.theme);
    } catch {}
  });
  try {
    const kept = localStorage.getItem("batten-theme");
    if (kept) root.dataset.theme = kept;
  } catch {}
  prefersDark.addEventListener("change", tellTheme);

  tellTheme();
  theme.hidden = false;
  form.hidden = false;
  if (fromHash()) toWorkloads();
  else apply();
}
