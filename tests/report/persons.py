"""Simulated persons of three sites, the same in every run."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

Person = dict[str, str | float | None]
SITES = {"hospital-a": (1400, 62.0), "hospital-b": (860, 66.0), "hospital-c": (240, 58.0)}
LABELS: dict[str, dict[str, object]] = {
    "age": {"label": "Age", "unit": "years", "step": 1},
    "bmi": {"label": "Body mass index", "unit": "kg/m2", "step": 0.1},
    "systolic_bp": {"label": "Systolic blood pressure", "unit": "mm[Hg]", "step": 1},
    "hba1c": {"label": "Haemoglobin A1c", "unit": "%", "step": 0.1},
    "smoking": {"label": "Smoking status", "unit": ""},
    "hypertension": {"label": "Hypertension", "unit": ""},
    "asthma": {"label": "Asthma", "unit": ""},
    "sex": {"label": "Sex", "unit": ""},
    "age_group": {"label": "Age group", "unit": ""},
    "death": {"label": "Death", "unit": ""},
}
CONCEPTS = {
    "Essential hypertension": (320128, 0.55),
    "Hyperlipidemia": (432867, 0.47),
    "Osteoarthritis of knee": (4079750, 0.19),
    "Chronic kidney disease stage 3 due to type 2 diabetes mellitus": (45769901, 0.12),
    "Depressive disorder": (440383, 0.11),
    "Atrial fibrillation": (313217, 0.08),
    "Asthma": (317009, 0.07),
    "Gout": (440674, 0.05),
}


def persons_of(site: str) -> Iterator[Person]:
    """The persons of a site."""
    size, mean_age = SITES[site]
    draw = random.Random(site)
    for _ in range(size):
        age = min(97.0, max(18.0, draw.gauss(mean_age, 14)))
        diabetes = draw.random() < 0.28 + (age - 60) / 200
        bmi = draw.gauss(29.5 if diabetes else 26.0, 4.8)
        hba1c = draw.lognormvariate(math.log(7.1 if diabetes else 5.5), 0.16 if diabetes else 0.07)
        yield {
            "sex": draw.choice(["Female", "Male"]) if draw.random() > 0.001 else "Unknown",
            "age_group": "18 to 44" if age < 45 else "45 to 64" if age < 65 else "65 or older",
            "diabetes": 1.0 if diabetes else 0.0,
            "age": float(int(age)),
            "bmi": round(bmi, 1) if draw.random() > 0.18 else None,
            "systolic_bp": float(round(draw.gauss(112 + age / 3, 15)))
            if draw.random() > 0.07
            else None,
            "hba1c": round(hba1c, 1) if draw.random() < (0.9 if diabetes else 0.35) else None,
            "smoking": draw.choices(["Never", "Former", "Current"], [55, 29, 16])[0],
            "hypertension": "Yes" if draw.random() < 0.5 else "No",
            "asthma": "Yes" if draw.random() < 0.01 else "No",
            **{name: float(draw.random() < share) for name, (_, share) in CONCEPTS.items()},
        }
