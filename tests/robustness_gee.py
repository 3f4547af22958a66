def fit_gee_design(d):
    raise NotImplementedError
def judge_gee(*a):
    raise NotImplementedError
