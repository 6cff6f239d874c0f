"""BibTeX entries of this software, of the studied papers and of databases."""

from collections.abc import Mapping
from dataclasses import dataclass

SOFTWARE_TITLE = "iqa-metrics"
SOFTWARE_AUTHORS = "The iqa-metrics developers"
SOFTWARE_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Entry:
    """An entry: its type (such as ``article``), its key and its fields."""

    kind: str
    key: str
    fields: Mapping[str, str]

    def bibtex(self) -> str:
        """Return the entry as BibTeX."""
        lines = [f"  {name} = {{{text}}}," for name, text in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def software(version: str) -> Entry:
    """Return the entry of a version of this software."""
    fields = {
        "title": f"{{{SOFTWARE_TITLE}}}",
        # A second pair of braces keeps a group's name whole.
        "author": f"{{{SOFTWARE_AUTHORS}}}",
        "version": version,
        "note": f"Software, licence {SOFTWARE_LICENCE}",
    }
    return Entry("misc", "iqa-metrics", fields)


PAPERS = (
    Entry(
        "misc",
        "hernandez2023analysis",
        {
            "title": "Analysis of Deep Image Quality Models",
            "author": "Hern{\\'a}ndez-C{\\'a}mara, Pablo and Vila-Tom{\\'a}s, Jorge and Laparra, "
            "Valero and Malo, Jes{\\'u}s",
            "year": "2023",
            "eprint": "2302.13345",
            "archiveprefix": "arXiv",
        },
    ),
    Entry(
        "article",
        "hernandez2025dissecting",
        {
            "title": "Dissecting the effectiveness of deep features as metric of perceptual image "
            "quality",
            "author": "Hern{\\'a}ndez-C{\\'a}mara, Pablo and Vila-Tom{\\'a}s, Jorge and Laparra, "
            "Valero and Malo, Jes{\\'u}s",
            "journal": "Neural Networks",
            "year": "2025",
            "pages": "107189",
            "doi": "10.1016/j.neunet.2025.107189",
        },
    ),
)
"""The preprint and the journal version of the paper whose claims a study tests."""

_BAPPS = Entry(
    "inproceedings",
    "zhang2018unreasonable",
    {
        "title": "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        "author": "Zhang, Richard and Isola, Phillip and Efros, Alexei A. and Shechtman, Eli and "
        "Wang, Oliver",
        "booktitle": "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
        "year": "2018",
        "eprint": "1801.03924",
        "archiveprefix": "arXiv",
    },
)

DATABASES: Mapping[str, Entry] = {
    "Ponomarenko et al., Advances of Modern Radioelectronics 10, 2009": Entry(
        "article",
        "ponomarenko2009tid2008",
        {
            "title": "{TID2008} -- A Database for Evaluation of Full-Reference Visual Quality "
            "Assessment Metrics",
            "author": "Ponomarenko, Nikolay and Lukin, Vladimir and Zelensky, Alexander and "
            "Egiazarian, Karen and Carli, Marco and Battisti, Federica",
            "journal": "Advances of Modern Radioelectronics",
            "volume": "10",
            "pages": "30--45",
            "year": "2009",
        },
    ),
    "Ponomarenko et al., Signal Processing: Image Communication 30, 2015": Entry(
        "article",
        "ponomarenko2015tid2013",
        {
            "title": "Image database {TID2013}: Peculiarities, results and perspectives",
            "author": "Ponomarenko, Nikolay and Jin, Lina and Ieremeiev, Oleg and Lukin, Vladimir "
            "and Egiazarian, Karen and Astola, Jaakko and Vozel, Benoit and Chehdi, Kacem and "
            "Carli, Marco and Battisti, Federica and Kuo, C.-C. Jay",
            "journal": "Signal Processing: Image Communication",
            "volume": "30",
            "pages": "57--77",
            "year": "2015",
            "doi": "10.1016/j.image.2014.10.009",
        },
    ),
    "Lin, Hosu and Saupe, QoMEX 2019": Entry(
        "inproceedings",
        "lin2019kadid",
        {
            "title": "{KADID-10k}: A Large-scale Artificially Distorted {IQA} Database",
            "author": "Lin, Hanhe and Hosu, Vlad and Saupe, Dietmar",
            "booktitle": "Eleventh International Conference on Quality of Multimedia Experience "
            "(QoMEX)",
            "year": "2019",
            "doi": "10.1109/QoMEX.2019.8743252",
        },
    ),
    "Larson and Chandler, Journal of Electronic Imaging 19(1), 2010": Entry(
        "article",
        "larson2010most",
        {
            "title": "Most apparent distortion: full-reference image quality assessment and the "
            "role of strategy",
            "author": "Larson, Eric C. and Chandler, Damon M.",
            "journal": "Journal of Electronic Imaging",
            "volume": "19",
            "number": "1",
            "pages": "011006",
            "year": "2010",
            "doi": "10.1117/1.3267105",
        },
    ),
    "Sheikh, Sabir and Bovik, IEEE TIP 15(11), 2006": Entry(
        "article",
        "sheikh2006statistical",
        {
            "title": "A Statistical Evaluation of Recent Full Reference Image Quality Assessment "
            "Algorithms",
            "author": "Sheikh, Hamid R. and Sabir, Muhammad F. and Bovik, Alan C.",
            "journal": "IEEE Transactions on Image Processing",
            "volume": "15",
            "number": "11",
            "pages": "3440--3451",
            "year": "2006",
            "doi": "10.1109/TIP.2006.881959",
        },
    ),
    "Gu et al., ECCV 2020, arXiv:2007.12142": Entry(
        "inproceedings",
        "gu2020pipal",
        {
            "title": "{PIPAL}: A Large-Scale Image Quality Assessment Dataset for Perceptual Image "
            "Restoration",
            "author": "Gu, Jinjin and Cai, Haoming and Chen, Haoyu and Ye, Xiaoxing and Ren, Jimmy "
            "S. and Dong, Chao",
            "booktitle": "European Conference on Computer Vision (ECCV)",
            "year": "2020",
            "eprint": "2007.12142",
            "archiveprefix": "arXiv",
        },
    ),
    "Zhang et al., CVPR 2018, arXiv:1801.03924": _BAPPS,
    "Fu et al., NeurIPS 2023, arXiv:2306.09344": Entry(
        "inproceedings",
        "fu2023dreamsim",
        {
            "title": "{DreamSim}: Learning New Dimensions of Human Visual Similarity using "
            "Synthetic Data",
            "author": "Fu, Stephanie and Tamir, Netanel and Sundaram, Shobhita and Chai, Lucy and "
            "Zhang, Richard and Dekel, Tali and Isola, Phillip",
            "booktitle": "Advances in Neural Information Processing Systems (NeurIPS)",
            "volume": "36",
            "year": "2023",
            "eprint": "2306.09344",
            "archiveprefix": "arXiv",
        },
    ),
}
"""The entry of a database, by the source that its record states."""
