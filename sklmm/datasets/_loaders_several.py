"""Loaders of the data sets with several grouping factors."""

from sklmm.datasets._loaders import _load


def load_verbagg(*, return_X_y=False, as_frame=False):
    """Load the verbal aggression data: 316 persons answer 24 items (classification).

    Would you be verbally aggressive in such a situation? Every item is a situation in which one is frustrated by others
    ("A bus fails to stop for me") or by oneself, a kind of behaviour (curse, scold, shout), and whether one would want
    to or do it.
    Answers are crossed: every person answers every item.

    =================   =========================
    Classes                                     2
    Samples per class   N (3973), Y (3611)
    Samples total                            7584
    Groups              316 persons, 24 items
    Features                                    5
    =================   =========================

    ========   ===========================================================
    r2         target: 1 ("Y") if the answer is "yes" or "perhaps"
    id         group: the person, 1 to 316
    item       group: the item, such as "S1WantCurse"
    Anger      the person's score of trait anger
    Gender     the person's: "F", "M"
    btype      behaviour: "curse", "scold", "shout"
    situ       who is to blame: "other", "self"
    mode       "want" to or "do"
    resp       the answer: "no", "perhaps", "yes"; in ``frame`` only
    ========   ===========================================================

    Source: ``VerbAgg`` of the R package lme4 1.1-31, licence GPL (>= 2), unchanged. From De Boeck, P. and Wilson, M.
    (2004), Explanatory Item Response Models: a Generalized Linear and Nonlinear Approach, Springer.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``groups`` are DataFrames, ``target`` is a Series, and categorical features have category
        dtype. If False, they are arrays, and a categorical feature holds the codes of its categories.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (7584, 5)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (7584,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or DataFrame of shape (7584, 2)
            The person and the item of each answer.
        frame : DataFrame of shape (7584, 9) or None
            All columns, the response coded as in ``target``. Only with ``as_frame=True``.
        feature_names, target_names, group_names : list of str
            Columns of ``data``; labels of the classes 0 and 1; grouping columns.
        categories : dict of str to list of str
            The categories of each categorical feature, in the order of their codes.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_verbagg
    >>> X, y, groups = load_verbagg(return_X_y=True, as_frame=True)
    >>> X.shape, groups.nunique().to_dict()
    ((7584, 5), {'id': 316, 'item': 24})
    """
    return _load(
        load_verbagg,
        filename="verbagg.csv.gz",
        response="r2",
        labels=["N", "Y"],
        group=["id", "item"],
        features=["Anger", "Gender", "btype", "situ", "mode"],
        categories={
            "Gender": ["F", "M"],
            "btype": ["curse", "scold", "shout"],
            "situ": ["other", "self"],
            "mode": ["want", "do"],
        },
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def load_guimmun(*, return_X_y=False, as_frame=False):
    """Load the Guatemalan immunisation data: children of mothers of communities (classification).

    Did a child, who got some immunisation, get the complete set? Children are nested in mothers, mothers in
    communities. Most mothers have one child here, none more than three, and mothers differ much: the case in which
    approximations of the likelihood are known to underestimate variances (Rodriguez and Goldman, 1995). The Laplace
    approximation gives standard deviations of 1.13 between mothers and 0.72 between communities (``"1 | mom"``,
    ``"1 | comm"``, all features); maximum likelihood by integration with 40 x 40 nodes gives 2.32 and 1.02, and
    coefficients a third larger.

    =================   ================================================
    Classes                                                            2
    Samples per class   N (1195), Y (964)
    Samples total                                                   2159
    Groups              1595 mothers (1-3), 161 communities (1-55)
    Features                                                           9
    =================   ================================================

    ========   ===========================================================
    immun      target: 1 ("Y") if the child got the complete set
    mom        group: the mother, nested in the community
    comm       group: the community
    kid2p      the child is 2 years or older: "N", "Y"
    mom25p     the mother is 25 years or older: "N", "Y"
    ord        birth order: "01", "23", "46", "7p"
    ethn       of the mother: "L" Ladino, "N" indigenous, no Spanish,
               "S" indigenous, Spanish
    momEd      her schooling: "N" none, "P" primary, "S" secondary
    husEd      her husband's: "N", "P", "S", "U" unknown
    momWork    she has worked outside: "N", "Y"
    rural      the community is rural: "N", "Y"
    pcInd81    share of indigenous people there in 1981
    kid        number of the child, in ``frame`` only
    ========   ===========================================================

    Source: ``guImmun`` of the R package mlmRev 1.0-8, licence GPL (>= 2), unchanged; from the 1987 National Survey of
    Maternal and Child Health of Guatemala. Rodriguez, G. and Goldman, N. (1995), An assessment of estimation procedures
    for multilevel models with binary responses, Journal of the Royal Statistical Society A 158, 73-89.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``groups`` are DataFrames, ``target`` is a Series, and categorical features have category
        dtype. If False, they are arrays, and a categorical feature holds the codes of its categories.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (2159, 9)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (2159,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or DataFrame of shape (2159, 2)
            The mother and the community of each child.
        frame : DataFrame of shape (2159, 13) or None
            All columns, the response coded as in ``target``. Only with ``as_frame=True``.
        feature_names, target_names, group_names : list of str
            Columns of ``data``; labels of the classes 0 and 1; grouping columns.
        categories : dict of str to list of str
            The categories of each categorical feature, in the order of their codes.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_guimmun
    >>> X, y, groups = load_guimmun(return_X_y=True, as_frame=True)
    >>> X.shape, groups.nunique().to_dict()
    ((2159, 9), {'mom': 1595, 'comm': 161})
    >>> int(groups.groupby("mom")["comm"].nunique().max())
    1
    """
    yes_no = ["N", "Y"]
    return _load(
        load_guimmun,
        filename="guimmun.csv.gz",
        response="immun",
        labels=["N", "Y"],
        group=["mom", "comm"],
        features=["kid2p", "mom25p", "ord", "ethn", "momEd", "husEd", "momWork", "rural", "pcInd81"],
        categories={
            "kid2p": list(yes_no),
            "mom25p": list(yes_no),
            "ord": ["01", "23", "46", "7p"],
            "ethn": ["L", "N", "S"],
            "momEd": ["N", "P", "S"],
            "husEd": ["N", "P", "S", "U"],
            "momWork": list(yes_no),
            "rural": list(yes_no),
        },
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def load_insteval(*, return_X_y=False, as_frame=False):
    """Load the lecture evaluations: 2,972 students rate 1,128 lecturers (classification).

    Does a student rate a lecture good or very good (4 or 5 of 5)? Students and lecturers are crossed; a lecturer
    belongs to one department.

    =================   ==================================================
    Classes                                                              2
    Samples per class   0 (40746), 1 (32675)
    Samples total                                                    73421
    Groups              2972 students (1-92), 1128 lecturers (10-792),
                        14 departments
    Features                                                             3
    =================   ==================================================

    ========   ===========================================================
    y4         target: 1 if ``y`` is 4 or 5
    s          group: the student, 1 to 2972
    d          group: the lecturer, 1 to 2160 (not all of them)
    dept       group: the department of the lecturer, 1 to 15 (no 13)
    studage    semesters that the student has been enrolled: 2, 4, 6, 8
    lectage    semesters since the lecture: 1 to 6
    service    1 if the lecture is for another department's students
    y          the rating: 1 to 5, in ``frame`` only
    ========   ===========================================================

    Source: ``InstEval`` of the R package lme4 1.1-31, licence GPL (>= 2): evaluations at ETH Zurich, anonymised and
    sampled by the package's authors. ``y4`` is added, all else is unchanged; ``studage`` and ``lectage`` are ordered
    factors there.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``groups`` are DataFrames and ``target`` is a Series. If False, they are arrays.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (73421, 3)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (73421,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or DataFrame of shape (73421, 3)
            The student, the lecturer and the department of each rating.
        frame : DataFrame of shape (73421, 8) or None
            All columns. Only with ``as_frame=True``.
        feature_names, target_names, group_names : list of str
            Columns of ``data``; labels of the classes 0 and 1; grouping columns.
        categories : dict
            Empty: no feature is categorical.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_insteval
    >>> X, y, groups = load_insteval(return_X_y=True, as_frame=True)
    >>> X.shape, groups.nunique().to_dict()
    ((73421, 3), {'s': 2972, 'd': 1128, 'dept': 14})
    """
    return _load(
        load_insteval,
        filename="insteval.csv.gz",
        response="y4",
        labels=["below 4", "4 or 5"],
        group=["s", "d", "dept"],
        features=["studage", "lectage", "service"],
        categories={},
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
