// Texts whose contrast with what lies behind them is below WCAG's 4.5 to 1.
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const pixel = (...colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
  }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const [r, g, b] = rgb
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const layers = (element) =>
  element
    ? [...layers(element.parentElement), getComputedStyle(element).backgroundColor]
    : ["white"];
const contrast = (element) => {
  const behind = layers(element);
  const paper = light(pixel(...behind));
  const ink = light(pixel(...behind, getComputedStyle(element).color));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
};
const speaks = (element) =>
  element.checkVisibility() &&
  [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
return [
  ...new Set(
    [...document.body.querySelectorAll("*:not(script):not(option)")]
      .filter((element) => speaks(element) && contrast(element) < 4.5)
      .map((element) => `${element.className || element.tagName} ${contrast(element).toFixed(2)}`),
  ),
];
