"""Loaders of the data sets that come with the package."""

import inspect
from importlib import resources

import numpy as np
import pandas as pd
from sklearn.utils import Bunch


def load_contraception(*, return_X_y=False, as_frame=False):
    """Load the contraception data: 1,934 women in 60 districts of Bangladesh (classification).

    Does a married woman use contraception at the time of the 1988-89 Bangladesh Fertility Survey? Women are
    grouped by the district they live in.

    =================   ====================
    Classes                                2
    Samples per class   N (1175), Y (759)
    Samples total                       1934
    Groups              60 districts (2-118)
    Features                               4
    =================   ====================

    ========   ===========================================================
    use        target: 1 ("Y") if she used contraception at the survey
    district   group: 1 to 61 (there is no 54)
    livch      living children: "0", "1", "2", "3+"
    age        years, centred around the mean
    urban      lives in a town: "N", "Y"
    ch         any living children: "N", "Y"; derived, ``livch`` is not "0"
    woman      number of the row, in ``frame`` only
    ========   ===========================================================

    Source: ``Contraception`` of the R package mlmRev 1.0-8, licence GPL (>= 2), which has it from the
    Centre for Multilevel Modelling, Bristol. ``ch`` is added, all else is unchanged. The package refers to
    Steele, F., Diamond, I. and Amin, S. (1996), Immunization uptake in rural Bangladesh: a multilevel
    analysis, Journal of the Royal Statistical Society A 159, 289-299.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` is a DataFrame whose categorical columns have category dtype (the first category
        is the reference level of the published analyses), ``target`` and ``groups`` are Series. If False,
        they are arrays, and a categorical column holds the codes of its categories: 0 for the first, 1 for
        the second, and so on.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (1934, 4)
            The features; the grouping column is not among them.
        target : ndarray or Series of shape (1934,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or Series of shape (1934,)
            The district of each woman.
        frame : DataFrame of shape (1934, 7) or None
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
    >>> from sklmm.datasets import load_contraception
    >>> X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    >>> X.shape, groups.nunique()
    ((1934, 4), 60)
    >>> list(X["livch"].cat.categories)
    ['0', '1', '2', '3+']

    With the groups as a column of ``X``, for ``group_features="district"``:

    >>> X.assign(district=groups).columns.tolist()
    ['livch', 'age', 'urban', 'ch', 'district']
    """
    return _load(
        load_contraception,
        filename="contraception.csv.gz",
        response="use",
        labels=["N", "Y"],
        group="district",
        features=["livch", "age", "urban", "ch"],
        categories={"livch": ["0", "1", "2", "3+"], "urban": ["N", "Y"], "ch": ["N", "Y"]},
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def load_bacteria(*, return_X_y=False, as_frame=False):
    """Load the bacteria data: repeated tests of 50 children in a drug trial (classification).

    Is the bacterium *H. influenzae* present in a child with a history of middle ear infection? Children
    were tested in weeks 0, 2, 4, 6 and 11 after the start of a treatment; tests are grouped by child.

    =================   ====================
    Classes                                2
    Samples per class   n (43), y (177)
    Samples total                        220
    Groups              50 children (2-5)
    Features                               4
    =================   ====================

    ========   ==============================================================
    y          target: 1 ("y") if the bacterium was present
    ID         group: "X01" to "Z26"
    ap         treatment: "a" active drug, "p" placebo
    hilo       compliance with the treatment: "hi", "lo"
    week       week of the test
    trt        "placebo", "drug" (active, low compliance), "drug+" (active, high)
    ========   ==============================================================

    Source: ``bacteria`` of the R package MASS 7.3-58.2, licence GPL-2 or GPL-3, unchanged; the data are
    from the Menzies School of Health Research, Darwin. Analysed in Venables, W. N. and Ripley, B. D.
    (2002), Modern Applied Statistics with S, 4th edition, Springer.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` is a DataFrame whose categorical columns have category dtype (the first category
        is the reference level of the published analyses), ``target`` and ``groups`` are Series. If False,
        they are arrays, and a categorical column holds the codes of its categories: 0 for the first, 1 for
        the second, and so on.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (220, 4)
            The features; the grouping column is not among them.
        target : ndarray or Series of shape (220,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or Series of shape (220,)
            The child of each test.
        frame : DataFrame of shape (220, 6) or None
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
    >>> from sklmm.datasets import load_bacteria
    >>> bunch = load_bacteria(as_frame=True)
    >>> bunch.categories["trt"]
    ['placebo', 'drug', 'drug+']
    >>> bunch.groups.head(5).tolist()
    ['X01', 'X01', 'X01', 'X01', 'X02']
    """
    return _load(
        load_bacteria,
        filename="bacteria.csv.gz",
        response="y",
        labels=["n", "y"],
        group="ID",
        features=["ap", "hilo", "week", "trt"],
        categories={"ap": ["a", "p"], "hilo": ["hi", "lo"], "trt": ["placebo", "drug", "drug+"]},
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def load_ohio(*, return_X_y=False, as_frame=False):
    """Load the Ohio wheeze data: 537 children seen yearly from age 7 to 10 (classification).

    Does a child of the Six Cities study of air pollution and health wheeze? Visits are grouped by child:
    many small groups that differ much from each other.

    =================   ====================
    Classes                                2
    Samples per class   no (1822), yes (326)
    Samples total                       2148
    Groups              537 children (4)
    Features                               2
    =================   ====================

    ========   =====================================================
    resp       target: 1 if the child wheezed
    id         group: 0 to 536
    age        years from the ninth birthday: -2, -1, 0, 1
    smoke      1 if the mother smoked in the first year of the study
    ========   =====================================================

    Source: ``ohio`` of the R package geepack 1.3.9, licence GPL (>= 3), unchanged. Analysed in Fitzmaurice,
    G. M. and Laird, N. M. (1993), A likelihood-based method for analysing longitudinal binary responses,
    Biometrika 80, 141-151.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` is a DataFrame, ``target`` and ``groups`` are Series. If False, they are arrays.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (2148, 2)
            The features; the grouping column is not among them.
        target : ndarray or Series of shape (2148,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or Series of shape (2148,)
            The child of each visit.
        frame : DataFrame of shape (2148, 4) or None
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
    >>> from sklmm.datasets import load_ohio
    >>> X, y, groups = load_ohio(return_X_y=True, as_frame=True)
    >>> X.columns.tolist(), y.name, groups.name
    (['age', 'smoke'], 'resp', 'id')
    >>> groups.value_counts().unique().tolist()
    [4]
    """
    return _load(
        load_ohio,
        filename="ohio.csv.gz",
        response="resp",
        labels=["no", "yes"],
        group="id",
        features=["age", "smoke"],
        categories={},
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def load_cbpp(*, return_X_y=False, as_frame=False):
    """Load the CBPP data: new cases of a disease in 15 herds of zebu cattle (classification of counts).

    How many animals of a herd fell ill with contagious bovine pleuropneumonia in each of four quarters? The
    source has a line for each herd and quarter: ``incidence`` cases among ``size`` animals. Here each line is
    two rows, one for the animals that fell ill and one for the others, and how many they are is the row's
    weight: hand it on as ``sample_weight``.

    =================   =================================
    Classes                                             2
    Samples per class   healthy (743), ill (99), weighted
    Samples total       112 rows for 842 animals
    Groups              15 herds (2-8 rows)
    Features                                            1
    =================   =================================

    =========   =========================================================
    ill         target: 1 for the animals that fell ill, 0 for the others
    herd        group: 1 to 15
    period      quarter of the survey: "1", "2", "3", "4"
    animals     weight: how many animals the row stands for, 0 included
    incidence   cases in the herd and quarter, in ``frame`` only
    size        animals in the herd and quarter, in ``frame`` only
    =========   =========================================================

    Source: ``cbpp`` of the R package lme4 1.1-31, licence GPL (>= 2). ``ill`` and ``animals`` are added, all
    else is unchanged. Lesnoff, M., Laval, G., Bonnet, P., et al. (2004), Within-herd spread of contagious
    bovine pleuropneumonia in Ethiopian highlands, Preventive Veterinary Medicine 64, 27-40.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups, sample_weight)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` is a DataFrame whose categorical column has category dtype (the first category is the
        reference level of the published analyses), ``target``, ``groups`` and ``sample_weight`` are Series. If
        False, they are arrays, and the categorical column holds the codes of its categories: 0 for the first, 1
        for the second, and so on.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (112, 1)
            The features; the grouping column is not among them.
        target : ndarray or Series of shape (112,)
            0 or 1; ``target_names`` are their labels.
        groups : ndarray or Series of shape (112,)
            The herd of each row.
        sample_weight : ndarray or Series of shape (112,)
            How many animals each row stands for.
        frame : DataFrame of shape (112, 6) or None
            All columns. Only with ``as_frame=True``.
        feature_names, target_names, group_names : list of str
            Columns of ``data``; labels of the classes 0 and 1; grouping columns.
        categories : dict of str to list of str
            The categories of each categorical feature, in the order of their codes.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups, sample_weight) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_cbpp
    >>> X, ill, herd, animals = load_cbpp(return_X_y=True, as_frame=True)
    >>> X.shape, herd.nunique()
    ((112, 1), 15)
    >>> int(animals[ill == 1].sum()), int(animals.sum())
    (99, 842)
    """
    return _load(
        load_cbpp,
        filename="cbpp.csv.gz",
        response="ill",
        labels=["healthy", "ill"],
        group="herd",
        features=["period"],
        categories={"period": ["1", "2", "3", "4"]},
        counts=("incidence", "size", "animals"),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _load(loader, *, filename, response, labels, group, features, categories, return_X_y, as_frame, counts=None):
    for name, value in (("return_X_y", return_X_y), ("as_frame", as_frame)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{loader.__name__}: {name} must be True or False, got {value!r}.")

    path = resources.files("sklmm.datasets") / "data" / filename
    with path.open("rb") as file:
        # "0" of livch is text; no value is missing
        frame = pd.read_csv(file, compression="gzip", dtype=dict.fromkeys(categories, str), na_filter=False)
    if counts is not None:
        frame = _rows_of_counts(frame, response, *counts)
    for column, levels in categories.items():
        frame[column] = pd.Categorical(frame[column], categories=levels)
    if not pd.api.types.is_integer_dtype(frame[response]):
        frame[response] = (frame[response] == labels[1]).astype(np.int64)

    data, target, groups = frame[features], frame[response], frame[group]
    weight = None if counts is None else frame[counts[2]]
    if not as_frame:
        codes = [data[c].cat.codes if c in categories else data[c] for c in features]
        data = np.column_stack(codes).astype(np.float64)
        target, groups, frame = target.to_numpy(), np.asarray(groups), None
        weight = None if weight is None else weight.to_numpy()
    weights = {} if weight is None else {"sample_weight": weight}
    if return_X_y:
        return data, target, groups, *weights.values()

    docstring = inspect.getdoc(loader) or ""  # there is none under `python -OO`
    return Bunch(
        data=data,
        target=target,
        groups=groups,
        **weights,
        frame=frame,
        feature_names=features,
        target_names=labels,
        group_names=[group] if isinstance(group, str) else group,
        categories=categories,
        DESCR=docstring.partition("\nParameters\n")[0],
        filename=filename,
        data_module="sklmm.datasets.data",
    )


def _rows_of_counts(frame, response, successes, trials, weight):
    """For k successes of n a row of weight k with response 1, and below all of these one of weight n - k with 0."""
    rows = [
        frame.assign(**{response: 1, weight: frame[successes].astype(np.float64)}),
        frame.assign(**{response: 0, weight: (frame[trials] - frame[successes]).astype(np.float64)}),
    ]
    return pd.concat(rows, ignore_index=True)
