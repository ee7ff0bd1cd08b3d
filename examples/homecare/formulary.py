"""The medications that everybody's device carries, and how the clinic's patients take them."""

from __future__ import annotations

FORMULARY: tuple[tuple[str, str, str, str | None], ...] = (
    ("Acetylsalicylic acid", "75 mg,100 mg,300 mg", "tablet", "With food."),
    ("Amlodipine", "5 mg,10 mg", "tablet", "Watch for swollen ankles."),
    ("Amoxicillin", "250 mg,500 mg", "capsule", "Finish the course. Ask about penicillin allergy."),
    ("Apixaban", "2.5 mg,5 mg", "tablet", "Bleeding risk: report bruises and falls."),
    ("Atorvastatin", "10 mg,20 mg,40 mg", "tablet", None),
    ("Baclofen", "10 mg", "tablet", "Never stop suddenly."),
    ("Bisoprolol", "1.25 mg,2.5 mg,5 mg", "tablet", "Pulse below 50: do not give, call the practice."),
    ("Calcium carbonate with vitamin D3", "1500 mg / 400 IU", "chewable tablet", None),
    ("Citalopram", "10 mg,20 mg", "tablet", None),
    ("Clopidogrel", "75 mg", "tablet", None),
    ("Codeine with paracetamol", "8 mg / 500 mg", "tablet", "Constipation: check bowels."),
    ("Dexamethasone eye drops", "0.1 %", "drops", "Four weeks after opening: throw away."),
    ("Digoxin", "62.5 µg,125 µg", "tablet", "Count the pulse for a whole minute first."),
    ("Donepezil", "5 mg,10 mg", "tablet", "In the evening."),
    ("Doxycycline", "100 mg", "capsule", "Upright, with a full glass of water."),
    ("Enoxaparin", "40 mg / 0.4 ml", "prefilled syringe", "Change the side of the belly every day."),
    ("Fentanyl", "12 µg/h,25 µg/h", "patch", "Every 72 hours; two people check the removal of the old one."),
    ("Ferrous fumarate", "210 mg", "tablet", "Dark stools are expected."),
    ("Folic acid", "5 mg", "tablet", None),
    ("Furosemide", "20 mg,40 mg", "tablet", "In the morning. Weigh on Mondays."),
    ("Gabapentin", "100 mg,300 mg", "capsule", "Drowsiness, falls."),
    ("Haloperidol", "0.5 mg", "capsule", None),
    ("Hydrocortisone", "1 %", "cream", "Thin layer, at most seven days."),
    ("Insulin aspart", "100 units/ml", "pen", "Only when the meal stands on the table."),
    ("Insulin glargine", "100 units/ml", "pen", "Same hour every day. Note the site."),
    ("Lactulose", "3.35 g / 5 ml", "syrup", None),
    ("Levodopa with benserazide", "100 mg / 25 mg", "capsule", "On time, to the minute."),
    ("Levothyroxine", "25 µg,50 µg,100 µg", "tablet", "Half an hour before breakfast."),
    ("Lisinopril", "2.5 mg,5 mg,10 mg", "tablet", "Dry cough: tell the practice."),
    ("Loperamide", "2 mg", "capsule", None),
    ("Macrogol", "13.8 g", "sachet", "In 125 ml of water."),
    ("Memantine", "10 mg,20 mg", "tablet", None),
    ("Metformin", "500 mg,850 mg,1000 mg", "tablet", "With meals."),
    ("Methotrexate", "2.5 mg", "tablet", "ONCE A WEEK. Check the day before giving."),
    ("Metoprolol", "50 mg,100 mg", "tablet", None),
    ("Mirtazapine", "15 mg,30 mg", "tablet", "At night."),
    ("Morphine", "10 mg,30 mg", "modified-release capsule", "Never open or crush."),
    ("Nitrofurantoin", "50 mg,100 mg", "capsule", "With food."),
    ("Omeprazole", "20 mg,40 mg", "capsule", None),
    ("Ondansetron", "4 mg", "tablet", None),
    ("Paracetamol", "500 mg", "tablet", "At most 4 g a day, all sources together."),
    ("Pantoprazole", "20 mg,40 mg", "tablet", None),
    ("Phenprocoumon", "3 mg", "tablet", "Dose by the INR card."),
    ("Prednisolone", "5 mg", "tablet", "In the morning; never stop suddenly."),
    ("Quetiapine", "25 mg", "tablet", None),
    ("Ramipril", "2.5 mg,5 mg", "capsule", None),
    ("Salbutamol", "100 µg", "inhaler", "With the spacer; rinse it weekly."),
    ("Sertraline", "50 mg", "tablet", None),
    ("Simvastatin", "20 mg,40 mg", "tablet", "No grapefruit."),
    ("Spironolactone", "25 mg", "tablet", "Potassium every three months."),
    ("Tamsulosin", "400 µg", "capsule", None),
    ("Tiotropium", "18 µg", "inhaler", None),
    ("Torasemide", "5 mg,10 mg", "tablet", None),
    ("Warfarin", "1 mg,3 mg,5 mg", "tablet", "Dose by the yellow book."),
    ("Zinc oxide", "10 %", "ointment", None),
    ("Zopiclone", "3.75 mg,7.5 mg", "tablet", "Short courses."),
)
"""Substance, strengths, form, advice."""

DOSES: dict[str, tuple[str, ...]] = {
    "tablet": (
        "1-0-0",
        "1-0-1",
        "0-0-1",
        "1-1-1",
        "½-0-0",
        "2-0-2",
        "1-0-0 Mon Wed Fri",
        "1 when needed, at most 4 a day",
    ),
    "capsule": ("1-0-0", "0-0-1", "1-0-1", "1-1-1"),
    "pen": ("12 units in the evening", "8-6-8 units", "18 units in the morning", "by the correction table"),
    "drops": ("1 drop each eye, 3 times a day", "1 drop right eye, morning and night"),
    "patch": ("1 patch every 72 hours",),
    "inhaler": ("2 puffs when needed", "1 puff in the morning", "2 puffs twice a day"),
    "": ("once a day", "twice a day", "when needed"),
}
"""By form; the last for every other form."""


def medication_rows() -> list[tuple[str, str, str, str, str | None]]:
    """(id, substance, strength, form, advice): one per strength."""
    rows: list[tuple[str, str, str, str, str | None]] = []
    for substance, strengths, form, advice in FORMULARY:
        for strength in strengths.split(","):
            rows.append((f"m-{len(rows) + 1:04}", substance, strength, form, advice))
    return rows


def doses_of(form: str) -> tuple[str, ...]:
    return DOSES.get(form, DOSES[""])
