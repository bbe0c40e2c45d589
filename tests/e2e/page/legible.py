"""Contrast of text with what is behind it, as WCAG 2 counts it (level AA)."""

from __future__ import annotations

from playwright.sync_api import Page

# Gives one line per kind of text that is too faint. Disabled parts and icons are exempt.
_FAINT = """() => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const parse = (colour) => {
    const [r, g, b, a = 1] = number(colour.replace('color(srgb', ''));
    return colour.startsWith('color(') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = (top, below) =>
    [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const parents = (e) => (e ? [...parents(e.parentElement), e] : []);
  const exempt = '[aria-hidden=true], svg, style, script, :disabled';
  const found = new Map();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const e = texts.currentNode.parentElement;
    const isSeen = e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || !isSeen || e.closest(exempt)) continue;
    const styles = parents(e).map((parent) => getComputedStyle(parent));
    const style = styles.at(-1);
    const fills = styles.map((s) => parse(s.backgroundColor));
    const behind = fills.reduce((below, fill) => over(fill, below), [255, 255, 255]);
    const [r, g, b, a] = parse(style.color);
    const opacity = styles.reduce((share, s) => share * Number(s.opacity), a);
    const both = [light(over([r, g, b, opacity], behind)), light(behind)].sort((x, y) => y - x);
    const ratio = (both[0] + 0.05) / (both[1] + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const kind = `${e.id || e.className} ${style.color} on ${behind.slice(0, 3).map(Math.round)}`;
    const words = `${ratio.toFixed(2)}: ${text.slice(0, 40)} (${kind})`;
    if (ratio < (isLarge ? 3 : 4.5)) found.set(kind, words);
  }
  return [...found.values()];
}"""


def faint_texts(page: Page) -> list[str]:
    """Texts on the screen with less contrast than 4.5, or 3 where they are large."""
    return page.evaluate(_FAINT)
