"""Names of people and streets, from the languages that one hears in a large town.

Scripts are mixed on purpose: a sync engine that only ever saw ASCII was not tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Names:
    """`share` is how often the language occurs, beside the others."""

    share: int
    given: tuple[str, ...]
    family: tuple[str, ...]
    family_first: bool = False
    joint: str = " "


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: dict[str, Names] = {
    "en": Names(
        26,
        _words(
            "Margaret Dorothy Arthur Evelyn Walter Joan Harold Ruth Stanley Edith Thomas Grace Oliver Hannah Daniel"
        ),
        _words("Whitfield Barker O'Neill Pemberton Hughes Ashworth Clarke Doyle Fairbairn Lowe MacLeod Penrose Sutton"),
    ),
    "de": Names(
        18,
        _words(
            "Gertrud Heinz Ingeborg Karl-Heinz Renate Jürgen Käthe Günther Ursula Björn Annika Lukas Sieglinde Otto"
        ),
        _words("Müller Schäfer Großmann Weiß Köhler Vogt Brückner Hoffmann Lindner Krüger Bauer Zöllner Engel Straub"),
    ),
    "tr": Names(
        9,
        _words("Ayşe Mehmet Fatma Hüseyin Gülsüm İbrahim Zeynep Çağla Emine Oğuz Şükran Yusuf"),
        _words("Yılmaz Öztürk Şahin Çelik Demir Kılıç Arslan Güneş Aydın Koç Yıldız"),
    ),
    "pl": Names(
        8,
        _words("Agnieszka Zbigniew Małgorzata Józef Bożena Łukasz Halina Stanisław Danuta Krystyna Paweł"),
        _words("Wójcik Kamińska Lewandowski Zielińska Szymański Dąbrowska Kozłowski Jabłońska Mazur Wrona"),
    ),
    "es": Names(
        8,
        _words("María José Carmen Ángel Pilar Joaquín Begoña Íñigo Dolores Andrés Lucía Ramón"),
        _words("Núñez Ibáñez Castaño Ortega Peña Vidal Muñoz Gallardo Serrano Quintana Rojas"),
    ),
    "fr": Names(
        6,
        _words("Geneviève François Hélène Étienne Odile Gérard Maëlle Benoît Solange Rémi"),
        _words("Lefèvre Dubois Béranger Chevalier Moreau Delacroix Gauthier L'Hostis Noël Rousseau"),
    ),
    "vi": Names(
        4,
        _words("Lan Hương Tuấn Minh Thảo Đức Ngọc Quang Phượng Hải"),
        _words("Nguyễn Trần Phạm Huỳnh Võ Đặng Bùi Đỗ"),
        family_first=True,
    ),
    "yo": Names(
        4,
        _words("Adébáyọ̀ Folúkẹ́ Olúwaṣeun Títílayọ̀ Babátúndé Yétúndé Kẹ́hìndé Ayọ̀délé"),
        _words("Adéyẹmí Ògúnbánjọ Akíntọ́lá Olátúnjí Balógun Ọláníyan"),
    ),
    "ar": Names(
        4,
        _words("فاطمة أحمد ليلى يوسف مريم عمر سعاد خالد"),
        _words("الحسن النجار حداد منصور الخطيب عيسى"),
    ),
    "ru": Names(
        4,
        _words("Елена Виктор Людмила Сергей Наталья Борис Тамара Григорий"),
        _words("Кузнецов Беляк Соловей Шевченко Черных Левин Мороз"),
    ),
    "zh": Names(
        3,
        _words("秀英 建国 丽华 志强 美玲 文博 桂兰 晓明"),
        _words("王 李 张 陈 欧阳 刘 黄 赵"),
        family_first=True,
        joint="",
    ),
    "el": Names(
        2,
        _words("Ελένη Γιώργος Κατερίνα Δημήτρης Σοφία Νίκος"),
        _words("Παπαδόπουλος Γεωργίου Οικονόμου Νικολάου Αγγελής"),
    ),
    "hi": Names(
        2,
        _words("सुनीता राजेश कमला अनिल मीना विजय"),
        _words("शर्मा वर्मा गुप्ता पटेल अय्यर"),
    ),
    "fi": Names(
        2,
        _words("Aino Väinö Päivi Eero Kyllikki Jyrki Tuulikki"),
        _words("Mäkelä Hämäläinen Virtanen Järvinen Nyström Lehtonen"),
    ),
}

STREETS = _words(
    "Mill Chapel Orchard Station Harbour Birch Kiln Sparrow Weaver Castle Linden Quarry Bridge Meadow Saint-Anne Cooper"
    " Rosemary Foundry Willow Observatory Tanner Hawthorn Lower-Quay Almond Beacon Cathedral Dovecote Elm"
)
STREET_ENDINGS = ("Street", "Lane", "Road", "Row", "Square", "Hill", "Gardens", "Yard")
TOWN_PARTS = ("Northgate", "Old Town", "Riverside", "Hopfield", "Saltmarsh", "Kingsbrook", "West Ferry")

_LANGUAGES = tuple(NAMES)
_SHARES = tuple(names.share for names in NAMES.values())


def choose_language(random: Random) -> str:
    return random.choices(_LANGUAGES, _SHARES)[0]


def choose_name(random: Random, language: str) -> str:
    """A full name in its own script and order; now and then a double family name."""
    names = NAMES[language]
    given, family = random.choice(names.given), random.choice(names.family)
    if names.joint and not names.family_first and random.random() < 0.06:
        family = "-".join(random.sample(names.family, 2))
    return names.joint.join((family, given) if names.family_first else (given, family))


def choose_street(random: Random) -> str:
    street = f"{random.randint(1, 180)} {random.choice(STREETS)} {random.choice(STREET_ENDINGS)}"
    return f"{street}, {random.choice(TOWN_PARTS)}"
