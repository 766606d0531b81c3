"""The report's style sheet: screen, phone, dark and print."""

STYLE_SHEET = """
:root {
  --paper: #ffffff; --ground: #f5f7f9; --ink: #1d2733; --soft: #5a6672; --rule: #dde3e8;
  --shade: #1d273326;
  --accent: #0072b2; --accent-soft: #e3f0f8; --good: #00734f; --good-soft: #e0f3ec;
  --bad: #b23b00; --bad-soft: #fbe9df; --warn: #7a5600; --warn-soft: #fbf0d5;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  color-scheme: light;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #171d24; --ground: #0f1419; --ink: #e8edf2; --soft: #a3b0bd; --rule: #2f3944;
    --shade: #00000080;
    --accent: #56a9e0; --accent-soft: #16303f; --good: #5ed3a8; --good-soft: #12362b;
    --bad: #f59a6c; --bad-soft: #40241a; --warn: #f0c566; --warn-soft: #3a2f14;
    color-scheme: dark;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 24px; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.6 var(--sans); overflow-wrap: anywhere;
}
a { color: var(--accent); text-underline-offset: 2px; }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px;
}
h1 { font-size: clamp(1.6rem, 1.1rem + 2vw, 2.3rem); line-height: 1.18; margin: 0;
  letter-spacing: -0.015em; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 .9rem; letter-spacing: -0.01em; }
h3 { font-size: 1.06rem; margin: 2.2rem 0 .7rem; }
h4 { font-size: .95rem; margin: 1.6rem 0 .4rem; }
p { margin: 0 0 .9rem; max-width: 72ch; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 12px; background: var(--paper); padding: 8px 12px; z-index: 3; }
.banner { background: var(--warn-soft); color: var(--warn); text-align: center;
  padding: 8px 16px; font-weight: 600; font-size: .92rem; }
header.title, .layout { max-width: 1180px; margin: 0 auto; padding: 0 28px; }
header.title { padding-top: 44px; padding-bottom: 26px; }
.over { color: var(--accent); font-weight: 600; font-size: .82rem; letter-spacing: .06em;
  text-transform: uppercase; margin-bottom: 10px; }
.lead { color: var(--soft); font-size: 1.08rem; margin: 12px 0 0; white-space: pre-line; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr));
  gap: 1px; background: var(--rule); border: 1px solid var(--rule); border-radius: 12px;
  overflow: hidden; margin: 26px 0 0; padding: 0; }
.facts div { background: var(--paper); padding: 14px 18px; }
.facts dt { color: var(--soft); font-size: .82rem; line-height: 1.35; }
.facts dd { margin: 2px 0 0; font-size: 1.45rem; font-weight: 650; line-height: 1.25;
  letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.layout { display: grid; grid-template-columns: 200px minmax(0, 1fr); gap: 36px;
  padding-bottom: 60px; align-items: start; }
nav.contents { position: sticky; top: 20px; font-size: .9rem; max-height: calc(100vh - 40px);
  overflow-y: auto; }
nav.contents ol { list-style: none; margin: 0; padding: 0; border-left: 2px solid var(--rule); }
nav.contents a { display: block; padding: 5px 14px; color: var(--soft); text-decoration: none;
  margin-left: -2px; border-left: 2px solid transparent; line-height: 1.4; }
nav.contents a:hover { color: var(--ink); border-left-color: var(--accent); }
nav.contents li li a { padding-left: 28px; font-size: .84rem; }
nav.contents ol ol { border: 0; }
main { min-width: 0; }
section { background: var(--paper); border: 1px solid var(--rule); border-radius: 14px;
  padding: 26px 30px 24px; margin: 0 0 22px; }
section > :last-child { margin-bottom: 0; }
dl.asked { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 22px;
  margin: 0; font-size: .95rem; }
dl.asked dt { color: var(--soft); }
dl.asked dd { margin: 0; }
.scroll { overflow-x: auto; margin: 0 -6px 4px; padding: 0 6px;
  background: linear-gradient(to left, var(--paper) 12px, transparent) right / 44px 100% no-repeat
      local,
    linear-gradient(to left, var(--shade), transparent) right / 14px 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.4; min-width: 100%;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: 0 0 8px; font-size: .95rem; }
th, td { padding: 5px 12px; text-align: right; vertical-align: top; font-weight: 400; }
td { white-space: nowrap; }
td.text { white-space: normal; min-width: 9ch; }
td.text:last-child { min-width: 20ch; }
th[scope=row], .text, thead th:first-child { text-align: left; }
th[scope=row] { position: sticky; left: 0; background: var(--paper); min-width: 16ch;
  max-width: 34ch; padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
thead th:first-child { padding-left: 0; position: sticky; left: 0; background: var(--paper); }
thead th[colspan]:not([colspan="1"]) { text-align: center; }
thead th.over-head:not(:empty) { border-bottom: 1px solid var(--rule); }
thead tr:last-child th { border-bottom: 1.5px solid var(--ink); }
thead tr:first-child th { border-top: 1.5px solid var(--ink); padding-top: 8px; }
tbody tr:last-child > * { border-bottom: 1.5px solid var(--ink); padding-bottom: 8px; }
tr.heading th[scope=row] { font-weight: 600; padding-top: 10px; position: static;
  background: none; max-width: none; }
tr.strong th, tr.strong td { font-weight: 600; }
tr.indent th[scope=row] { padding-left: 18px; color: var(--soft); }
tr.strong.indent th[scope=row] { color: var(--ink); }
table.wide, table.dense { font-size: .82rem; }
:is(table.wide, table.dense) :is(th, td) { padding-left: 7px; padding-right: 7px; }
:is(table.wide, table.dense) th:first-child { padding-left: 0; }
table tr.indent th[scope=row] { padding-left: 18px; }
.notes { color: var(--soft); font-size: .82rem; margin: 8px 0 0; max-width: none; }
.block { margin: 0 0 30px; }
figure { margin: 0 0 26px; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: 6px; }
figure svg { display: block; width: calc(100% + 16px); max-width: 826px !important; height: auto;
  margin: 0 -8px; }
figure .phone { display: none; }
.badge { display: inline-block; padding: 1px 10px; border-radius: 99px; font-weight: 600;
  font-size: .82rem; white-space: nowrap; background: var(--bad-soft); color: var(--bad); }
.badge.answered { background: var(--good-soft); color: var(--good); }
.badge.refused { background: var(--warn-soft); color: var(--warn); }
.sites { list-style: none; margin: 0; padding: 0; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.sites li { border: 1px solid var(--rule); border-radius: 10px; padding: 12px 16px; }
.sites .head { display: flex; gap: 10px; justify-content: space-between; align-items: baseline; }
.sites .name { font-weight: 600; min-width: 0; }
.sites .numbers { color: var(--soft); font-size: .86rem; margin: 2px 0 0; }
.sites .why { font-size: .9rem; margin: 8px 0 0; }
.budget { margin-top: 26px; }
.budget .block { margin-bottom: 0; }
code, pre { font-family: var(--mono); font-size: .84rem; }
pre { background: var(--ground); border: 1px solid var(--rule); border-radius: 10px;
  padding: 14px 16px; overflow-x: auto; line-height: 1.5; margin: 0; overflow-wrap: normal;
  tab-size: 4; }
details { margin: 0 0 22px; }
summary { cursor: pointer; font-weight: 600; font-size: .95rem; padding: 6px 0; }
.buttons { display: flex; flex-wrap: wrap; gap: 10px; margin: 0 0 14px; }
.button { background: var(--accent-soft); color: var(--accent); border-radius: 8px;
  padding: 8px 16px; font-weight: 600; text-decoration: none; }
.references { font-size: .86rem; color: var(--soft); padding-left: 1.6em; }
sup { line-height: 0; font-size: .72em; }
footer { color: var(--soft); font-size: .84rem; text-align: center; padding: 0 20px 40px; }
@media screen and (max-width: 860px) {
  header.title { padding: 30px 18px 20px; }
  .layout { display: block; padding: 0 0 40px; }
  nav.contents { position: sticky; top: 0; z-index: 2; background: var(--ground);
    border-bottom: 1px solid var(--rule); overflow-x: auto; max-height: none; }
  nav.contents > ol { display: flex; border: 0; padding: 0 10px; width: max-content; }
  nav.contents a { padding: 11px 9px; white-space: nowrap; max-width: 46vw; overflow: hidden;
    text-overflow: ellipsis; }
  nav.contents li li { display: none; }
  html { scroll-padding-top: 60px; }
  section { border-width: 0 0 1px; border-radius: 0; padding: 24px 18px 22px; margin: 0; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts div:last-child:nth-child(odd) { grid-column: 1 / -1; }
  dl.asked { display: block; }
  dl.asked dd { margin-bottom: 8px; }
  table, table.wide, table.dense { font-size: .8rem; }
  th, td, table.wide th, table.wide td { padding: 5px 7px; }
  th[scope=row] { max-width: 40vw; min-width: 12ch; }
  thead th[colspan]:not([colspan="1"]) { text-align: left; padding-left: 16px; }
}
@media screen and (max-width: 620px) {
  figure .desk { display: none; }
  figure .phone { display: block; max-width: 440px; }
}
@media print {
  @page { size: A4; margin: 16mm 15mm 18mm; }
  body { background: none; font-size: 10pt; line-height: 1.45; }
  nav.contents, .skip, .buttons { display: none; }
  header.title, .layout { display: block; padding: 0; max-width: none; }
  header.title { padding-bottom: 12pt; }
  section { border: 0; padding: 0; margin: 0 0 16pt; border-radius: 0; }
  section > h2 { border-bottom: .75pt solid var(--rule); padding-bottom: 3pt; }
  h2, h3, h4, caption, figcaption, summary { break-after: avoid; }
  figure, .sites li, tr, .facts, .block { break-inside: avoid; }
  .block.long { break-inside: auto; }
  .scroll { overflow: visible; margin: 0; padding: 0; background: none; }
  table, table.dense { font-size: 8pt; }
  table.wide { font-size: 6.4pt; }
  table.wide th, table.wide td { padding: 2.5pt 3pt; white-space: normal; }
  th, td { padding: 2.5pt 6pt; }
  th[scope=row], thead th:first-child { position: static; }
  thead { display: table-header-group; }
  .facts { display: flex; background: none; }
  .facts div { flex: 1; padding: 6pt 8pt; }
  .facts dd { font-size: 12pt; }
  .facts dt { font-size: 7.5pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { display: none; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 7.5pt; }
  figure svg { max-width: 165mm; }
  .page + .page { break-before: page; }
  footer { padding: 0; text-align: left; }
}
"""
