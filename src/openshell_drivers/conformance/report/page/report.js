// The page is whole without this: it filters, opens and closes what is there.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const search = byId("search");
  const service = byId("service");
  const chips = all(".chip");
  const cards = all("details.card");
  const groups = all(".matrix tbody");
  const words = new Map(
    [...cards, ...all("tr.row")].map((each) => [each, each.textContent.toLowerCase()]),
  );

  const pressed = () =>
    new Set(chips.filter((c) => c.ariaPressed === "true").map((c) => c.dataset.outcome));

  const matcher = () => {
    const outcomes = pressed();
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return (element, of) =>
      (!service.value || of === service.value) &&
      (!outcomes.size || element.dataset.outcomes.split(" ").some((o) => outcomes.has(o))) &&
      wanted.every((word) => words.get(element).includes(word));
  };

  const filter = () => {
    const matches = matcher();
    let shown = 0;
    let total = 0;
    for (const group of groups) {
      let here = 0;
      for (const row of group.querySelectorAll("tr.row")) {
        row.hidden = !matches(row, group.dataset.service);
        here += !row.hidden;
        total += 1;
      }
      group.hidden = !here;
      shown += here;
    }
    for (const card of cards) card.hidden = !matches(card, card.dataset.service);
    for (const section of all("section.cards"))
      section.hidden = !section.querySelector("details.card:not([hidden])");
    const some = shown !== total;
    byId("shown").textContent = some ? `${shown} of ${total} checks` : `${total} checks`;
    byId("clear").hidden = !(some || search.value || service.value || pressed().size);
    byId("empty").hidden = shown > 0;
  };

  const clear = () => {
    search.value = "";
    service.value = "";
    for (const chip of chips) chip.ariaPressed = "false";
    filter();
  };

  const reveal = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (!folded) return;
    if (folded.hidden) clear();
    folded.open = true; // not every browser does that by itself
    const card = target.classList.contains("body");
    (card ? folded : target).scrollIntoView();
    if (card) folded.querySelector("summary").focus({ preventScroll: true });
  };

  for (const chip of chips)
    chip.addEventListener("click", () => {
      chip.ariaPressed = String(chip.ariaPressed !== "true");
      filter();
    });
  search.addEventListener("input", filter);
  service.addEventListener("change", filter);
  byId("clear").addEventListener("click", () => {
    clear();
    search.focus();
  });
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  // A second click on the same link changes no hash.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal();
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Escape" && event.target === search) clear();
  });

  const unfold = byId("unfold");
  if (unfold) {
    unfold.hidden = false;
    unfold.addEventListener("click", () => {
      const open = cards.some((card) => !card.open);
      for (const card of cards) card.open = open;
      unfold.textContent = open ? "Close all" : "Open all";
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });

  const tools = byId("tools");
  tools.hidden = false;
  // The matrix's head sticks below the filter where that sticks, and links lead below both.
  new ResizeObserver(() => {
    const height = getComputedStyle(tools).position === "sticky" ? tools.offsetHeight : 0;
    document.documentElement.style.setProperty("--tools", `${height}px`);
  }).observe(tools);
  filter();
  if (location.hash) reveal();
})();
