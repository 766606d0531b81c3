"""The report's page. Everything that a study or a site named is escaped on its way in."""

PAGE = """\
{%- macro show_figure(figure) -%}
<figure>{% if figure.title %}<figcaption>{{ figure.title }}</figcaption>{% endif %}
<div class="desk">{{ figure.desk }}</div><div class="phone">{{ figure.phone }}</div></figure>
{%- endmacro -%}
{%- macro show_block(block) -%}
{%- if block.folded %}<details><summary>{{ block.folded }}</summary>{% endif -%}
{%- if block.table %}{{ show_table(block.table) }}{% endif -%}
{%- if block.figure %}{{ show_figure(block.figure) }}{% endif -%}
{%- if block.folded %}</details>{% endif -%}
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ page.title }}</title>
<style>{{ style }}</style>
{{ figure_style }}
</head>
<body>
<a class="skip" href="#results">Go to the results</a>
{%- if page.synthetic %}
<div class="banner" role="note">Synthetic data: no person is described by these numbers.</div>
{%- endif %}
<header class="title">
<div class="over">Federated analytics report</div>
<h1>{{ page.title }}</h1>
{%- if page.description %}<p class="lead">{{ page.description }}</p>{% endif %}
{%- if page.facts %}
<dl class="facts">
{%- for name, value in page.facts %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{%- endfor %}
</dl>
{%- endif %}
</header>
<div class="layout">
<nav class="contents" aria-label="Contents"><ol>
{%- if page.asked %}<li><a href="#question">Question</a></li>{% endif %}
{%- if page.attrition %}<li><a href="#population">Population</a></li>{% endif %}
<li><a href="#sites">Sites</a></li>
<li><a href="#results">Results</a>
{%- if page.chapters|length > 1 %}<ol>
{%- for chapter in page.chapters %}
<li><a href="#results-{{ loop.index }}">{{ chapter.title }}</a></li>
{%- endfor %}</ol>{% endif %}</li>
<li><a href="#withheld">Withheld</a></li>
<li><a href="#methods">Methods</a></li>
{%- if page.study_toml %}<li><a href="#study">Study file</a></li>{% endif %}
<li><a href="#data">Data</a></li>
</ol></nav>
<main>
{%- if page.asked %}
<section id="question"><h2>Question</h2>
<dl class="asked">
{%- for name, value in page.asked %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl>
</section>
{%- endif %}
{%- if page.attrition %}
<section id="population"><h2>Population and attrition</h2>
{%- for block in page.attrition %}{{ show_block(block) }}{% endfor %}
</section>
{%- endif %}
<section id="sites"><h2>Sites and participation</h2>
{%- if page.sites %}
<ul class="sites">
{%- for site in page.sites %}
<li><div class="head"><span class="name">{{ site.name }}</span>
<span class="badge {{ site.badge }}">{{ site.status }}</span></div>
{%- if site.numbers %}<p class="numbers">{{ site.numbers }}</p>{% endif -%}
{%- if site.why %}<p class="why">{{ site.why }}{% if site.code %} <code>{{ site.code }}</code>
{%- endif %}</p>{% endif -%}
{%- if site.note %}<p class="why">Note: {{ site.note }}</p>{% endif %}</li>
{%- endfor %}
</ul>
{%- else %}<p>The result does not say which sites took part.</p>{% endif %}
{%- if page.budget %}
<div id="budget" class="budget">{{ show_table(page.budget) }}</div>
{%- endif %}
</section>
{%- if not page.chapters %}
<section id="results"><h2>Results</h2><p>No site answered, so there are no numbers.</p></section>
{%- endif %}
{%- for chapter in page.chapters %}
<section{% if loop.first %} id="results"{% endif %} class="page">
<h2 id="results-{{ loop.index }}">
{{- "Results" if page.chapters|length == 1 else "Results: " ~ chapter.title }}</h2>
{%- for part in chapter.parts %}
{%- if part.title %}<h3>{{ part.title }}</h3>{% endif %}
{%- for block in part.blocks %}{{ show_block(block) }}{% endfor %}
{%- if part.more %}<p class="notes">{{ part.more }}</p>{% endif %}
{%- endfor %}
</section>
{%- endfor %}
<section id="withheld"><h2>What was withheld, and why</h2>
<p>{{ page.withheld_text }}</p>
{%- if page.withheld %}{{ show_table(page.withheld) }}{% endif %}
</section>
<section id="methods"><h2>Methods</h2>
{%- for paragraph in page.methods %}
<p><strong>{{ paragraph.title }}.</strong> {{ paragraph.text }}
{%- for key in paragraph.cites %}<sup>{{ "," if not loop.first }}
{{- page.references.index(key) + 1 }}</sup>{% endfor %}</p>
{%- endfor %}
<ol class="references">
{%- for key in page.references %}<li>{{ references[key] }}</li>{% endfor %}
</ol>
</section>
{%- if page.study_toml %}
<section id="study"><h2>Study file</h2><pre tabindex="0"><code>{{ page.study_toml }}</code></pre>
</section>
{%- endif %}
<section id="data"><h2>Data</h2>
{%- if page.csv %}
<div class="buttons">
<a class="button" download="result.csv" href="{{ page.csv }}">Download result.csv</a>
</div>
{%- endif %}
<p>All numbers of this report as a summarised result ({{ page.rows }} rows, 13 columns). In R:
<code>omopgenerics::importSummarisedResult("result.csv")</code>; in Python:
<code>Result.load("result.csv")</code> of <code>federated_analytics.report.result</code>.</p>
</section>
</main>
</div>
<footer>{{ page.footer }}</footer>
</body>
</html>
"""
