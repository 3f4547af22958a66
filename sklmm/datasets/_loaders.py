"""Loaders of the data sets that come with the package.

`read_data_set` does the work; here is what the user of a loader reads. The description of a data set stands in a text
file beside the data, and takes the place of the first line when the module is imported.
"""

import inspect

from ._data_sets import description, read_data_set


def _described(loader):
    """The loader with the description of its data set in the docstring, which help() shows."""
    if loader.__doc__ is not None:  # there is none under `python -OO`
        _, _, rest = inspect.getdoc(loader).partition("\n")
        loader.__doc__ = description(loader.__name__.removeprefix("load_")) + rest
    return loader


@_described
def load_contraception(*, return_X_y=False, as_frame=False):
    """Load the contraception data: 1,934 women in 60 districts of Bangladesh (classification).

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
    return read_data_set("contraception", return_X_y, as_frame)


@_described
def load_bacteria(*, return_X_y=False, as_frame=False):
    """Load the bacteria data: repeated tests of 50 children in a drug trial (classification).

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
    return read_data_set("bacteria", return_X_y, as_frame)


@_described
def load_ohio(*, return_X_y=False, as_frame=False):
    """Load the Ohio wheeze data: 537 children seen yearly from age 7 to 10 (classification).

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
    return read_data_set("ohio", return_X_y, as_frame)


@_described
def load_cbpp(*, return_X_y=False, as_frame=False):
    """Load the CBPP data: new cases of a disease in 15 herds of zebu cattle (classification of counts).

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
    return read_data_set("cbpp", return_X_y, as_frame)


@_described
def load_verbagg(*, return_X_y=False, as_frame=False):
    """Load the verbal aggression data: 316 persons answer 24 items (classification).

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
    return read_data_set("verbagg", return_X_y, as_frame)


@_described
def load_guimmun(*, return_X_y=False, as_frame=False):
    """Load the Guatemalan immunisation data: children of mothers of communities (classification).

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
    return read_data_set("guimmun", return_X_y, as_frame)


@_described
def load_insteval(*, return_X_y=False, as_frame=False, target="y4"):
    """Load the lecture evaluations: 2,972 students rate 1,128 lecturers (classification).

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``groups`` are DataFrames and ``target`` is a Series. If False, they are arrays.
    target : {"y4", "y"}, default="y4"
        The class, or the rating itself as a number.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (73421, 3)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (73421,)
            0 or 1; ``target_names`` are their labels. Or 1.0 to 5.0, without ``target_names``.
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
    if target not in ("y4", "y"):
        raise ValueError(f"load_insteval: target must be 'y4' or 'y', got {target!r}.")
    return read_data_set("insteval", return_X_y, as_frame, None if target == "y4" else target)


@_described
def load_sleepstudy(*, return_X_y=False, as_frame=False):
    """Load the sleep deprivation study: reaction times of 18 persons over ten days (regression).

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data``, ``target`` and ``groups`` are DataFrames and Series. If False, they are arrays.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (180, 1)
            The features; the grouping column is not among them.
        target : ndarray or Series of shape (180,)
            The reaction times, in milliseconds.
        groups : ndarray or Series of shape (180,)
            The person of each measurement.
        frame : DataFrame or None
            All columns. Only with ``as_frame=True``.
        feature_names, group_names : list of str
            Columns of ``data``; grouping columns.
        categories : dict
            Empty: no feature is categorical.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_sleepstudy
    >>> X, y, groups = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> X.shape, groups.nunique()
    ((180, 1), 18)
    """
    return read_data_set("sleepstudy", return_X_y, as_frame)


@_described
def load_penicillin(*, return_X_y=False, as_frame=False):
    """Load the penicillin assay: 6 samples tested on each of 24 plates (regression).

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data``, ``target`` and ``groups`` are DataFrames and Series. If False, they are arrays.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (144, 0)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (144,)
            The diameters, in millimetres.
        groups : ndarray or DataFrame of shape (144, 2)
            The plate and the sample of each measurement.
        frame : DataFrame or None
            All columns. Only with ``as_frame=True``.
        feature_names, group_names : list of str
            Columns of ``data``; grouping columns.
        categories : dict
            Empty: no feature is categorical.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_penicillin
    >>> bunch = load_penicillin(as_frame=True)
    >>> bunch.groups.nunique().to_dict()
    {'plate': 24, 'sample': 6}
    """
    return read_data_set("penicillin", return_X_y, as_frame)


@_described
def load_pastes(*, return_X_y=False, as_frame=False):
    """Load the chemical pastes: strength of 30 casks of 10 deliveries, measured twice (regression).

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, returns ``(data, target, groups)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data``, ``target`` and ``groups`` are DataFrames and Series. If False, they are arrays.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray or DataFrame of shape (60, 0)
            The features; the grouping columns are not among them.
        target : ndarray or Series of shape (60,)
            The strengths.
        groups : ndarray or DataFrame of shape (60, 2)
            The delivery and the cask of each measurement.
        frame : DataFrame or None
            All columns. Only with ``as_frame=True``.
        feature_names, group_names : list of str
            Columns of ``data``; grouping columns.
        categories : dict
            Empty: no feature is categorical.
        DESCR : str
            The description of the data set.
        filename, data_module : str
            The data file, and the package that holds it.

    (data, target, groups) : tuple, if ``return_X_y`` is True

    Examples
    --------
    >>> from sklmm.datasets import load_pastes
    >>> bunch = load_pastes(as_frame=True)
    >>> bunch.groups.nunique().to_dict()
    {'batch': 10, 'sample': 30}
    """
    return read_data_set("pastes", return_X_y, as_frame)
