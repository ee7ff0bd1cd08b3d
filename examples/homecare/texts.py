"""What nurses and the office write: visit notes, summaries and telephone messages.

Sentences are drawn and filled in, so that 10,000 notes are not ten texts; a nurse writes in her own language where
there are sentences for it, else in English.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Sentences(NamedTuple):
    """A note is one of each, the last left out now and then."""

    findings: tuple[str, ...]
    care: tuple[str, ...]
    next: tuple[str, ...]


NOTES: dict[str, Sentences] = {
    "en": Sentences(
        (
            "BP {sys}/{dia}, pulse {pulse}, feels well.",
            "Blood sugar {sugar} mmol/l before breakfast.",
            "Wound on the left heel {mm} mm, edges clean, no smell.",
            "Weight {kg} kg, {grams} g more than on Monday; both ankles swollen.",
            "Slept badly, says the hip hurts, pain {pain}/10 on getting up.",
            "Temperature {temp} °C, cough dry, no shortness of breath.",
            "In good spirits; the grandson was here at the weekend.",
            "Skin over the sacrum red but blanching.",
            "Has eaten half of the breakfast, drunk {ml} ml since yesterday.",
            "Door opened late; was confused at first, knew me after a while.",
            "Stoma: skin intact, bag changed yesterday by herself.",
        ),
        (
            "Medication given as planned, box filled until Sunday.",
            "Dressing changed, hydrocolloid, next change in three days.",
            "Helped with washing and dressing, compression stockings on.",
            "Insulin {units} units, left thigh.",
            "Walked to the kitchen and back with the frame, steady.",
            "Catheter bag emptied, {ml} ml, clear.",
            "Eye drops given, both sides.",
            "Turned to the right side, heels free.",
            "Explained the new tablets again; will ask the daughter to look as well.",
        ),
        (
            "Practice informed by telephone.",
            "Key back in the safe.",
            "Please look at the heel tomorrow.",
            "Daughter will order the incontinence pads.",
            "Family asks for a visit half an hour later on Thursdays.",
            "Nothing else out of the ordinary.",
        ),
    ),
    "de": Sentences(
        (
            "RR {sys}/{dia}, Puls {pulse}, fühlt sich wohl.",
            "Blutzucker nüchtern {sugar} mmol/l.",
            "Wunde linke Ferse {mm} mm, Ränder reizlos.",
            "Gewicht {kg} kg, Knöchelödeme beidseits.",
            "Schlecht geschlafen, Schmerzen {pain}/10 in der Hüfte.",
        ),
        (
            "Medikamente nach Plan gegeben, Wochenbox gestellt.",
            "Verband gewechselt, nächster Wechsel in drei Tagen.",
            "Körperpflege am Waschbecken, Kompressionsstrümpfe angezogen.",
            "Insulin {units} IE, rechter Oberschenkel.",
        ),
        ("Hausärztin telefonisch informiert.", "Schlüssel im Tresor.", "Bitte morgen die Ferse ansehen."),
    ),
    "es": Sentences(
        (
            "TA {sys}/{dia}, pulso {pulse}, se encuentra bien.",
            "Glucemia en ayunas {sugar} mmol/l.",
            "Herida del talón {mm} mm, bordes limpios.",
            "Ha dormido mal, dolor {pain}/10 en la cadera.",
        ),
        (
            "Medicación administrada según la pauta.",
            "Cura realizada; próxima en tres días.",
            "Ayuda con el aseo, medias de compresión puestas.",
        ),
        ("Se avisa al centro de salud.", "La hija traerá los pañales mañana.", "Sin otras novedades."),
    ),
    "pl": Sentences(
        (
            "RR {sys}/{dia}, tętno {pulse}, samopoczucie dobre.",
            "Cukier na czczo {sugar} mmol/l.",
            "Rana na pięcie {mm} mm, brzegi czyste.",
            "Źle spała, ból biodra {pain}/10.",
        ),
        (
            "Leki podane zgodnie z planem.",
            "Opatrunek zmieniony, następny za trzy dni.",
            "Pomoc przy myciu i ubieraniu.",
        ),
        ("Lekarz poinformowany telefonicznie.", "Klucz w sejfie.", "Poza tym bez zmian."),
    ),
    "tr": Sentences(
        (
            "Tansiyon {sys}/{dia}, nabız {pulse}, kendini iyi hissediyor.",
            "Açlık şekeri {sugar} mmol/l.",
            "Topuktaki yara {mm} mm, çevresi temiz.",
        ),
        ("İlaçlar plana göre verildi.", "Pansuman değiştirildi.", "Banyo ve giyinmeye yardım edildi."),
        ("Doktora telefonla bilgi verildi.", "Yarın topuğa tekrar bakılsın.", "Başka bir şey yok."),
    ),
}

SUMMARIES = (
    "Morning care, medication given.",
    "Wound care left heel, healing.",
    "Insulin and breakfast, blood sugar {sugar}.",
    "Stockings on, BP {sys}/{dia}.",
    "Medication box filled for the week.",
    "Catheter care, {ml} ml, clear.",
    "Evening care, settled in bed.",
    "Weight {kg} kg, practice informed.",
    "Mobilised with the frame.",
)

OFFICE_SUMMARIES = (
    "Daughter called: please ring twice, the bell is weak.",
    "Practice called: new dressing plan lies in the folder.",
    "Insurer asks for the duration of this visit in minutes.",
    "Patient called: was very content today.",
    "Hospital letter arrived, discharged on Friday.",
)

PATIENT_REMARKS = (
    "Key in the safe beside the cellar door, code with the office.",
    "Hard of hearing: ring long.",
    "Dog in the house, friendly.",
    "Third floor, no lift.",
    "Penicillin allergy.",
    "Likes the radio left on.",
    "Neighbour in number 4 has a key.",
    "Prefers to be addressed by the family name.",
)


def _figures(random: Random) -> dict[str, object]:
    return {
        "sys": random.randint(105, 172),
        "dia": random.randint(58, 98),
        "pulse": random.randint(54, 96),
        "sugar": f"{random.uniform(4.4, 13.8):.1f}",
        "mm": random.randint(4, 38),
        "kg": f"{random.uniform(44, 104):.1f}",
        "grams": random.randrange(300, 2200, 100),
        "pain": random.randint(2, 8),
        "temp": f"{random.uniform(36.1, 38.6):.1f}",
        "ml": random.randrange(200, 1500, 50),
        "units": random.randint(4, 26),
    }


def write_note(random: Random, language: str = "en") -> str:
    sentences = NOTES.get(language, NOTES["en"])
    chosen = [random.choice(sentences.findings), random.choice(sentences.care)]
    if random.random() < 0.55:
        chosen.append(random.choice(sentences.next))
    return " ".join(chosen).format(**_figures(random))


def write_summary(random: Random) -> str:
    return random.choice(SUMMARIES).format(**_figures(random))


def counted(number: int, noun: str) -> str:
    """`1 visit`, `1,200 visits`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
