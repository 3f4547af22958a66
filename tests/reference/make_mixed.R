# Fits the reference mixed models with lme4 and glmmTMB and writes <data set>.json beside this file.
#
#   Rscript tests/reference/make_mixed.R [directory to write to]
#
# Laplace fits come from glmmTMB, brought by Newton steps on its exact gradient to a gradient of about 1e-9.
# Adaptive Gauss-Hermite fits come from glmer, restarted with tolPwrss = 1e-13 until the log-likelihood
# stands still: at its default tolerance glmer is up to 1e-2 below the optimum. README.md has the details.
suppressPackageStartupMessages({ library(lme4); library(glmmTMB); library(numDeriv); library(jsonlite) })

here <- dirname(normalizePath(sub("--file=", "", grep("--file=", commandArgs(FALSE), value = TRUE))))
out_dir <- if (length(commandArgs(TRUE))) commandArgs(TRUE)[1] else here
shipped <- function(name, ...) {
  read.csv(gzfile(file.path(here, "../../sklmm/datasets/data", paste0(name, ".csv.gz"))), check.names = FALSE, ...)
}
first_levels_shown <- 60    # conditional modes are written for this many groups, sums over all of them

# ---- data: derived columns are numeric, so that coefficients have the same names as columns of X in the tests
contraception <- shipped("contraception", colClasses = c(livch = "factor", urban = "factor", ch = "factor"))
contraception <- transform(contraception, district = factor(district), use = as.integer(use == "Y"),
                           age2 = age^2, w = 1 + woman %% 3)
bacteria <- transform(shipped("bacteria"), y = as.integer(y == "y"), ID = factor(ID), late = as.numeric(week > 2),
                      trt = factor(trt, levels = c("placebo", "drug", "drug+")))
ohio <- transform(shipped("ohio"), id = factor(id))
cbpp <- shipped("cbpp", colClasses = c(herd = "factor", period = "factor"))
cbpp <- transform(cbpp, incidence_rate = incidence / size)

# ---- one list per fit
version_of <- function(package) paste(package, packageVersion(package))

record <- function(name, engine, formula, coef, vcov, log_likelihood, n_nodes = NULL, weights = NULL, ...) {
  features <- c("intercept", names(coef)[-1])
  c(list(name = name, engine = engine, formula = deparse1(formula), n_quadrature = n_nodes, weights = weights,
         log_likelihood = log_likelihood, fixed_names = features, coef = unname(coef),
         se = sqrt(diag(vcov)), vcov = unname(vcov)), list(...))
}

# Log-likelihoods are written for 0/1 rows, as sklmm sees counts (two rows of weights k and n - k); those of
# binomial counts exceed them by this. Zero where all of a row's weight has one outcome.
log_coefficients <- function(w, y) sum(lchoose(w, round(w * y)))

covariance_parts <- function(cov) {
  sd <- sqrt(diag(cov))
  list(sd = unname(sd), corr = unname(cov / outer(sd, sd)), cov = unname(cov))
}

# modes: levels x q; condvar: one q x q matrix a level, given the estimates
groups_part <- function(factor_name, levels, modes, condvar) {
  shown <- seq_len(min(length(levels), first_levels_shown))
  list(factor = factor_name, n_groups = length(levels),
       random_names = sub("(Intercept)", "intercept", colnames(modes), fixed = TRUE),
       levels = levels[shown], modes = unname(modes[shown, , drop = FALSE]), condvar = condvar[shown],
       modes_sum = unname(colSums(modes)), modes_sumsq = unname(colSums(modes^2)),
       condvar_sum = Reduce(`+`, condvar))
}

fitted_part <- function(X, beta, random_part) {
  eta <- drop(X %*% beta)
  conditional <- unname(plogis(eta + random_part))
  population <- unname(plogis(eta))
  list(conditional_first10 = conditional[1:10], conditional_sum = sum(conditional),
       population_first10 = population[1:10], population_sum = sum(population))
}

# ---- glm
fit_glm <- function(name, formula, data, weights = NULL) {
  w <- if (is.null(weights)) rep(1, nrow(data)) else data[[weights]]
  fit <- glm(formula, data = cbind(data, .w = w), family = binomial, weights = .w,
             control = glm.control(epsilon = 1e-14, maxit = 100))
  record(name, paste("stats", getRversion()), formula, coef(fit), vcov(fit), as.numeric(logLik(fit)), weights = weights)
}

# ---- Laplace: glmmTMB
nlminb_newton <- function(start, objective, gradient, ...) {
  fit <- nlminb(start, objective, gradient, control = list(iter.max = 1e4, eval.max = 1e5))
  par <- fit$par
  for (step in 1:10) {
    g <- drop(gradient(par))
    if (max(abs(g)) < 1e-10) break
    par <- par - solve(jacobian(gradient, par), g)
  }
  gradient_size <- max(abs(gradient(par)))
  list(par = setNames(par, names(start)), objective = objective(par),
       convergence = as.integer(gradient_size > 1e-8), message = paste("largest gradient", gradient_size))
}

fit_laplace <- function(name, formula, data, weights = NULL) {
  w <- if (is.null(weights)) rep(1, nrow(data)) else data[[weights]]
  fit <- glmmTMB(formula, data = cbind(data, .w = w), family = binomial, weights = .w,
                 control = glmmTMBControl(optimizer = nlminb_newton))
  par <- fit$fit$par
  stopifnot(fit$fit$convergence == 0)
  hessian <- jacobian(fit$obj$gr, par)
  fixed <- names(par) == "beta"
  vcov <- solve((hessian + t(hessian)) / 2)[fixed, fixed]

  # glmmTMB's own standard deviations of the modes add the uncertainty of the parameters; the inverse of the
  # random block of its Hessian is the conditional covariance given the estimates
  invisible(fit$obj$fn(par))
  all_par <- fit$obj$env$last.par
  q <- nrow(VarCorr(fit)$cond[[1]])
  precision <- fit$obj$env$spHess(all_par, random = TRUE)
  modes <- as.matrix(ranef(fit)$cond[[1]])
  condvar <- lapply(seq_len(nrow(modes)), function(i) {
    block <- (i - 1) * q + seq_len(q)
    solve(as.matrix(precision[block, block]))
  })
  X <- getME(fit, "X")
  random_part <- drop(as.matrix(getME(fit, "Z") %*% all_par[names(all_par) == "b"]))
  cov <- matrix(VarCorr(fit)$cond[[1]], q)   # drops attributes
  c(record(name, paste(version_of("glmmTMB"), version_of("TMB"), sep = ", "), formula, fixef(fit)$cond, vcov,
           as.numeric(logLik(fit)) - log_coefficients(w, model.response(model.frame(fit))),
           n_nodes = 1, weights = weights),
    covariance_parts(cov), groups_part(names(ranef(fit)$cond)[1], rownames(modes), modes, condvar),
    fitted_part(X, fixef(fit)$cond, random_part))
}

# ---- adaptive Gauss-Hermite: glmer (one scalar random effect)
fit_quadrature <- function(name, formula, data, n_nodes, weights = NULL) {
  w <- if (is.null(weights)) rep(1, nrow(data)) else data[[weights]]
  data$.w <- w
  control <- function(...) {
    glmerControl(optimizer = "bobyqa", check.conv.grad = "ignore", check.conv.hess = "ignore", calc.derivs = FALSE, ...)
  }
  run <- function(...) glmer(formula, data = data, family = binomial, weights = .w, nAGQ = n_nodes, ...)
  tight <- control(tolPwrss = 1e-13, nAGQ0initStep = FALSE, optCtrl = list(maxfun = 2e5, rhobeg = 0.01, rhoend = 1e-9))
  fit <- run(control = control(tolPwrss = 1e-10, optCtrl = list(maxfun = 2e5, rhoend = 1e-9)))
  for (restart in 1:10) {
    before <- as.numeric(logLik(fit))
    fit <- run(start = list(theta = getME(fit, "theta"), fixef = fixef(fit)), control = tight)
    if (abs(as.numeric(logLik(fit)) - before) < 1e-8) break
  }
  deviance_of <- run(control = tight, devFunOnly = TRUE)
  par <- c(getME(fit, "theta"), fixef(fit))
  joint <- solve(hessian(deviance_of, par) / 2)

  # when nAGQ > 1, lme4 leaves out the log-likelihood of the saturated model: zero for 0/1 data, not for counts
  y <- getME(fit, "y")
  saturated <- sum(dbinom(round(w * y), w, y, log = TRUE))
  effects <- ranef(fit, condVar = TRUE)[[1]]
  modes <- as.matrix(effects)
  post_var <- attr(effects, "postVar")
  condvar <- lapply(seq_len(nrow(modes)), function(i) matrix(post_var[, , i], ncol(modes)))
  random_part <- drop(as.matrix(getME(fit, "Z") %*% getME(fit, "b")))
  c(record(name, version_of("lme4"), formula, fixef(fit), joint[-1, -1],
           as.numeric(logLik(fit)) + saturated - log_coefficients(w, y), n_nodes = n_nodes, weights = weights),
    covariance_parts(matrix(VarCorr(fit)[[1]], 1)), groups_part(names(ranef(fit)), rownames(modes), modes, condvar),
    fitted_part(getME(fit, "X"), fixef(fit), random_part))
}

# a line of JSON for every entry of every record, so that a changed number is a changed line
write_reference <- function(file, records) {
  scalars <- c("engine", "formula", "n_quadrature", "weights", "log_likelihood", "factor", "n_groups",
               "conditional_sum", "population_sum")
  as_json <- function(name, value) {
    sprintf("  %s: %s", toJSON(unbox(name)), toJSON(value, digits = I(13), auto_unbox = name %in% scalars))
  }
  blocks <- vapply(records, function(r) {
    message(sprintf("%-34s %17.9f", r$name, r$log_likelihood))
    r <- r[!vapply(r, is.null, TRUE)]
    entries <- r[names(r) != "name"]
    lines <- paste(mapply(as_json, names(entries), entries), collapse = ",\n")
    paste0(" ", toJSON(unbox(r$name)), ": {\n", lines, "\n }")
  }, "")
  writeLines(c("{", paste(blocks, collapse = ",\n"), "}"), file.path(out_dir, file))
}

# ---- the models
m_01 <- use ~ age + urban + livch + (1 | district)
m_02 <- use ~ age + age2 + urban + livch + (1 | district)
m_03 <- use ~ age + age2 + urban + ch + (1 | district)
m_04 <- use ~ age * ch + age2 + urban + (1 | district)
slope_urban <- use ~ age + age2 + urban + ch + (1 + urban | district)
slope_age <- use ~ age + age2 + urban + ch + (1 + age || district)
quadratures <- function(model, formula, data, nodes, weights = NULL) {
  lapply(nodes, function(k) fit_quadrature(sprintf("%s/glmer_nAGQ%d", model, k), formula, data, k, weights))
}
write_reference("contraception.json", c(
  list(fit_glm("m_00/glm", use ~ age + urban + livch, contraception),
       fit_glm("m_00_weighted/glm", use ~ age + urban + livch, contraception, "w"),
       fit_laplace("m_01/glmmTMB_laplace", m_01, contraception),
       fit_laplace("m_02/glmmTMB_laplace", m_02, contraception),
       fit_laplace("m_03/glmmTMB_laplace", m_03, contraception),
       fit_laplace("m_04/glmmTMB_laplace", m_04, contraception),
       fit_laplace("m_slope_urban/glmmTMB_laplace", slope_urban, contraception),
       fit_laplace("m_slope_age_uncorr/glmmTMB_laplace", slope_age, contraception),
       fit_laplace("m_01_weighted/glmmTMB_laplace", m_01, contraception, "w")),
  quadratures("m_01", m_01, contraception, c(5, 15, 25)),
  quadratures("m_03", m_03, contraception, c(5, 15, 25)),
  quadratures("m_01_weighted", m_01, contraception, 15, "w")))

write_reference("bacteria.json", c(
  list(fit_laplace("main/glmmTMB_laplace", y ~ trt + late + (1 | ID), bacteria)),
  quadratures("main", y ~ trt + late + (1 | ID), bacteria, c(11, 25))))

write_reference("ohio.json", c(
  list(fit_laplace("main/glmmTMB_laplace", resp ~ age * smoke + (1 | id), ohio)),
  quadratures("main", resp ~ age * smoke + (1 | id), ohio, c(5, 15, 25, 51))))

write_reference("cbpp.json", c(
  list(fit_laplace("main/glmmTMB_laplace", incidence_rate ~ period + (1 | herd), cbpp, "size")),
  quadratures("main", incidence_rate ~ period + (1 | herd), cbpp, c(9, 25), "size")))
