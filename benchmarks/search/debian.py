"""Which packages of Debian do manuals, web pages and texts of the corpus come from?"""

from __future__ import annotations

from fetch import APT, Package

MANUALS = {
    "angband": Package(
        APT,
        "angband=1:3.5.1-2.5",
        "angband_*.deb",
        "438ec26ec2907338cb15a9c4d6b165ed0537441c1c304cf053d8d8db463be2ee",
    ),
    "apcupsd-doc": Package(
        APT,
        "apcupsd-doc=3.14.14-3.1",
        "apcupsd-doc_*.deb",
        "04aa73e6d2e3b732109fe58de3fd4beb3dd735330036028622f958edcc365988",
    ),
    "bsdgames": Package(
        APT,
        "bsdgames=2.17-29+b1",
        "bsdgames_*.deb",
        "cc92de974a1f66623a05ac0aed6dc790f682e5aac5205f0210294744d1532d10",
    ),
    "crawl-common": Package(
        APT,
        "crawl-common=2:0.28.0-1.1",
        "crawl-common_*.deb",
        "50c8f0091ba88538dde6585e5eddba02677bfe94d3ee4dc90a5bd3a788650f59",
    ),
    "debian-faq": Package(
        APT,
        "debian-faq=11.1",
        "debian-faq_*.deb",
        "427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0",
    ),
    "eyes17-manuals-en": Package(
        APT,
        "eyes17-manuals-en=5.1.2+repack-1",
        "eyes17-manuals-en_*.deb",
        "42e8f64cfcadc7358deca16b7255cd2f8e36fa4f20bb75737a43e2d02cb9b493",
    ),
    "fortunes": Package(
        APT,
        "fortunes=1:1.99.1-7.3",
        "fortunes_*.deb",
        "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5",
    ),
    "gnugo": Package(
        APT,
        "gnugo=3.8-11",
        "gnugo_*.deb",
        "b84c3dc06a7c37917f1e7bf4ef8be8816480ff01ea3eab9b84e2ae66545a5069",
    ),
    "miscfiles": Package(
        APT,
        "miscfiles=1.5+dfsg-4",
        "miscfiles_*.deb",
        "b29fdc907760ded52adbc1b4322da22b94108cd124caf0b23da8c23cc3578a28",
    ),
    "nethack-common": Package(
        APT,
        "nethack-common=3.6.6-3+b2",
        "nethack-common_*.deb",
        "760e7020de1cec4943c125c97e93d3dd5978128cd22117ae91cd7cf640f617b9",
    ),
    "solfege-doc": Package(
        APT,
        "solfege-doc=3.23.4-11",
        "solfege-doc_*.deb",
        "d4ffad067a4c44d62be596848b586f8a9813027033b940526f4253cae82e1df6",
    ),
}
"""Folder under work/unpacked -> package. Four of them are built for amd64; their documents are the same in all."""
