# Fits the reference marginal models with geepack and gee and writes gee_<data set>.json beside this file.
#
#   Rscript tests/reference/make_gee.R [directory to write to]
#
# README.md says what each kind of record is.
suppressPackageStartupMessages({ library(geepack); library(gee); library(jsonlite) })

here <- dirname(normalizePath(sub("--file=", "", grep("--file=", commandArgs(FALSE), value = TRUE))))
out_dir <- if (length(commandArgs(TRUE))) commandArgs(TRUE)[1] else here
shipped <- function(name, ...) {
  read.csv(gzfile(file.path(here, "../../sklmm/datasets/data", paste0(name, ".csv.gz"))), check.names = FALSE, ...)
}
tight <- geese.control(epsilon = 1e-12, maxit = 500)

# ---- data: id, wave (1, 2, ... in the order of the times), time and integer weights w that vary within clusters
contraception <- transform(shipped("contraception", colClasses = c(livch = "factor", urban = "factor", ch = "factor")),
                           y = as.integer(use == "Y"), id = factor(district, unique(district)),
                           age2 = age^2, w = 1 + woman %% 3, wave = 1)   # its structures have no times
bacteria <- transform(shipped("bacteria"), y = as.integer(y == "y"), id = factor(ID, unique(ID)),
                      late = as.numeric(week > 2), trt = factor(trt, levels = c("placebo", "drug", "drug+")),
                      time = week, wave = match(week, c(0, 2, 4, 6, 11)))
ohio <- transform(shipped("ohio"), y = resp, id = factor(id, unique(id)), time = age, wave = age + 3)
bacteria$w <- 1 + seq_len(nrow(bacteria)) %% 3
ohio$w <- 1 + seq_len(nrow(ohio)) %% 3

# ---- pairs of rows of a cluster in geepack's order, for structures it knows by a design matrix only
pair_design <- function(corstr, data, correlation) {
  # corstr = "unstructured" of geepack 1.3.9 reads out of bounds where a cluster lacks a wave
  if (corstr == "unstructured") return(genZcor(as.vector(table(data$id)), data$wave, 4))
  if (!corstr %in% c("m-dependent", "fixed")) return(NULL)
  of_one <- function(wave) if (length(wave) > 1) t(combn(wave, 2))
  pairs <- do.call(rbind, lapply(split(data$wave, data$id), of_one))
  lag <- pairs[, 2] - pairs[, 1]
  stopifnot(lag > 0)
  if (corstr == "fixed") matrix(correlation[pairs]) else cbind(lag == 1, lag == 2) + 0
}

# ---- one list per fit
version_of <- function(package) paste(package, packageVersion(package))

record <- function(name, package, corstr, formula, weights, time, scale_fix, phi, coef, vcov_robust, vcov_naive, alpha,
                   ...) {
  timeless <- corstr %in% c("independence", "exchangeable")
  c(list(name = name, engine = version_of(package), corstr = corstr, formula = deparse1(formula), weights = weights,
         time = if (!timeless) time, scale_fix = scale_fix, phi = unname(phi),
         fixed_names = c("intercept", names(coef)[-1]), coef = unname(coef),
         vcov_robust = unname(vcov_robust), vcov_naive = unname(vcov_naive), alpha = unname(alpha)), list(...))
}

name_of <- function(model, weights, ...) {
  paste(paste0(model, if (!is.null(weights)) "_weighted"), ..., sep = "/")
}

# geeglm replaces waves by the ranks of their values; scale.fix = TRUE freezes phi at the unweighted mean squared
# Pearson residual of the glm it starts from, whatever scale.value is
fit_geeglm <- function(model, formula, data, corstr, weights = NULL, scale_fix = FALSE, correlation = NULL) {
  data$.w <- if (is.null(weights)) 1 else data[[weights]]
  zcor <- pair_design(corstr, data, correlation)
  if (is.null(zcor)) {
    fit <- geeglm(formula, data = data, id = id, waves = wave, weights = .w, family = binomial, corstr = corstr,
                  scale.fix = scale_fix, control = tight)
  } else {
    geepack_name <- if (corstr == "fixed") "fixed" else "userdefined"
    fit <- geeglm(formula, data = data, id = id, weights = .w, family = binomial, corstr = geepack_name, zcor = zcor,
                  scale.fix = scale_fix, control = tight)
  }
  stopifnot(fit$geese$error == 0)
  criteria <- QIC(fit, env = environment())
  record(name_of(model, weights, "geeglm", corstr, paste0("scale_fix_", scale_fix)), "geepack", corstr, formula,
         weights, "wave", scale_fix, fit$geese$gamma, fit$geese$beta, fit$geese$vbeta, fit$geese$vbeta.naiv,
         if (corstr != "fixed") fit$geese$alpha else numeric(),
         working_correlation = correlation,
         quasi = criteria[["Quasi Lik"]], QIC = criteria[["QIC"]], QICu = criteria[["QICu"]], CIC = criteria[["CIC"]])
}

# geese takes waves as they are, and fixes phi at gm
fit_geese <- function(model, formula, data, corstr, time, label, weights = NULL, scale_fix = FALSE, alpha = NULL) {
  data$.w <- if (is.null(weights)) 1 else data[[weights]]
  data$.time <- data[[time]]
  fit <- geese(formula, data = data, id = id, waves = .time, weights = .w, family = binomial, corstr = corstr,
               alpha = alpha, scale.fix = scale_fix, gm = if (scale_fix) 1, control = tight)
  stopifnot(fit$error == 0)
  record(name_of(model, weights, "geese", corstr, label), "geepack", corstr, formula, weights, time, scale_fix,
         fit$gamma, fit$beta, fit$vbeta, fit$vbeta.naiv, fit$alpha)
}

# gee knows positions only. It has no weights: rows are repeated, which is what weights that count mean where every
# two rows of a cluster have the same correlation
fit_gee <- function(model, formula, data, corstr, weights = NULL, scale_fix = FALSE) {
  rows <- if (is.null(weights)) seq_len(nrow(data)) else rep(seq_len(nrow(data)), data[[weights]])
  repeated <- data[rows, ]
  sink(nullfile())   # it prints the coefficients of the glm it starts from
  fit <- suppressMessages(gee(formula, data = repeated, id = id, family = binomial, corstr = corstr, Mv = 1,
                              scale.fix = scale_fix, scale.value = 1, tol = 1e-10, maxiter = 500))
  sink()
  stopifnot(fit$error == 0)
  R <- fit$working.correlation
  alpha <- switch(corstr, independence = numeric(), exchangeable = , "AR-M" = R[1, 2],
                  unstructured = t(R)[lower.tri(R)])
  record(name_of(model, weights, "gee", corstr, paste0("scale_fix_", scale_fix)), "gee", corstr, formula, weights,
         "position", scale_fix, fit$scale, fit$coefficients, fit$robust.variance, fit$naive.variance, alpha)
}

# a line of JSON for every entry of every record, so that a changed number is a changed line
write_reference <- function(file, records) {
  scalars <- c("engine", "formula", "corstr", "weights", "time", "scale_fix", "phi", "quasi", "QIC", "QICu", "CIC")
  as_json <- function(name, value) {
    sprintf("  %s: %s", toJSON(unbox(name)), toJSON(value, digits = I(15), auto_unbox = name %in% scalars))
  }
  blocks <- vapply(records, function(r) {
    message(sprintf("%-50s %s", r$name, paste(format(c(r$phi, r$alpha), digits = 8), collapse = " ")))
    entries <- r[!vapply(r, is.null, TRUE) & names(r) != "name"]
    lines <- paste(mapply(as_json, names(entries), entries), collapse = ",\n")
    paste0(" ", toJSON(unbox(r$name)), ": {\n", lines, "\n }")
  }, "")
  writeLines(c("{", paste(blocks, collapse = ",\n"), "}"), file.path(out_dir, file))
}

# ---- the models
toeplitz_of <- function(...) toeplitz(c(1, ...))
each <- function(fit, corstrs, ..., scale_fix = FALSE) {
  Map(function(corstr, fixed) fit(..., corstr = corstr, scale_fix = fixed),
      rep(corstrs, each = length(scale_fix)), rep(scale_fix, length(corstrs)))
}
both <- c(FALSE, TRUE)
structures <- c("independence", "exchangeable", "ar1", "unstructured")

wheeze <- y ~ age * smoke
write_reference("gee_ohio.json", c(
  each(fit_geeglm, structures, "main", wheeze, ohio, scale_fix = both),
  each(fit_geeglm, "m-dependent", "main", wheeze, ohio),
  each(fit_geeglm, "fixed", "main", wheeze, ohio, correlation = toeplitz_of(0.4, 0.3, 0.25)),
  each(fit_geeglm, structures[-1], "main", wheeze, ohio, weights = "w"),
  each(fit_geese, structures, "main", wheeze, ohio, time = "wave", label = "phi_is_1", scale_fix = TRUE),
  each(fit_gee, c("independence", "exchangeable", "AR-M", "unstructured"), "main", wheeze, ohio, scale_fix = both),
  each(fit_gee, c("independence", "exchangeable"), "main", wheeze, ohio, weights = "w")))

infection <- y ~ trt + late
by_week <- toeplitz_of(0.3, 0.2, 0.15, 0.1)
write_reference("gee_bacteria.json", c(
  each(fit_geeglm, structures, "main", infection, bacteria, scale_fix = both),
  each(fit_geeglm, "m-dependent", "main", infection, bacteria),
  each(fit_geeglm, "fixed", "main", infection, bacteria, correlation = by_week),
  each(fit_geeglm, c(structures, "m-dependent"), "main", infection, bacteria, weights = "w"),
  each(fit_geeglm, "fixed", "main", infection, bacteria, weights = "w", correlation = by_week),
  each(fit_geese, c("exchangeable", "ar1"), "main", infection, bacteria, time = "wave", label = "phi_is_1",
       scale_fix = TRUE),
  # from alpha = 0, geese's own start, the derivative of alpha^2 is 0 and alpha stays there
  list(fit_geese("main", infection, bacteria, "ar1", "time", "weeks", alpha = 0.5),
       fit_geese("main", infection, bacteria, "ar1", "time", "weeks", weights = "w", alpha = 0.5)),
  each(fit_gee, c("independence", "exchangeable"), "main", infection, bacteria, scale_fix = both),
  each(fit_gee, "AR-M", "main", infection, bacteria),   # not unstructured: gee divides by all clusters
  each(fit_gee, c("independence", "exchangeable"), "main", infection, bacteria, weights = "w")))

m_00 <- y ~ age + urban + livch
m_03 <- y ~ age + age2 + urban + ch
districts <- c("independence", "exchangeable")
write_reference("gee_contraception.json", c(
  each(fit_geeglm, districts, "m_00", m_00, contraception, scale_fix = both),
  each(fit_geeglm, districts, "m_03", m_03, contraception, scale_fix = both),
  each(fit_geeglm, districts, "m_00", m_00, contraception, weights = "w", scale_fix = both),
  each(fit_geese, "exchangeable", "m_00", m_00, contraception, time = "wave", label = "phi_is_1", scale_fix = TRUE),
  each(fit_geese, "exchangeable", "m_03", m_03, contraception, time = "wave", label = "phi_is_1", scale_fix = TRUE),
  each(fit_gee, districts, "m_00", m_00, contraception, scale_fix = both),
  each(fit_gee, districts, "m_03", m_03, contraception, scale_fix = both),
  each(fit_gee, districts, "m_00", m_00, contraception, weights = "w")))
