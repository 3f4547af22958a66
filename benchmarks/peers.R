# Fits a model with one R package and prints what it reached and the process seconds it took: on each line a
# name and its numbers.
# Arguments: package, file of column-major doubles (y, group, features ...), number of rows, number of columns,
# and for estimating equations the working correlation. Rows come sorted by group and time.
arguments <- commandArgs(trailingOnly = TRUE)
package <- arguments[1]
n <- as.integer(arguments[3])
k <- as.integer(arguments[4])
structure <- arguments[5]
table <- matrix(readBin(arguments[2], "double", n * k), n, k)
features <- paste0("x", seq_len(k - 2) - 1)
colnames(table) <- c("y", "group", features)
data <- as.data.frame(table)
marginal <- paste("y ~", paste(features, collapse = " + "))
if (is.na(structure)) data$group <- factor(data$group)
mixed <- as.formula(paste(marginal, "+ (1 | group)"))
marginal <- as.formula(marginal)

suppressPackageStartupMessages(library(package, character.only = TRUE))
fit <- switch(package,
  lme4 = function() {
    glmer(mixed, data, family = binomial, control = glmerControl(optimizer = "nloptwrap"))
  },
  glmmTMB = function() {
    # The default tolerance stops a few 1e-6 short of the optimum.
    glmmTMB(mixed, data, family = binomial, control = glmmTMBControl(optCtrl = list(rel.tol = 1e-14)))
  },
  # The default tolerances of gee and geepack leave errors too large to see whether two fits agree.
  gee = function() {
    corstr <- c(exchangeable = "exchangeable", ar1 = "AR-M", unstructured = "unstructured")[[structure]]
    capture.output(model <- suppressMessages( # it prints its starting values
      gee(marginal, id = data$group, data = data, family = binomial, corstr = corstr,
        tol = 1e-8, maxiter = 100)
    ))
    model
  },
  geepack = function() {
    geeglm(marginal, id = data$group, data = data, family = binomial, corstr = structure,
      control = geese.control(epsilon = 1e-8, maxit = 100))
  }
)
show <- function(name, values) cat(name, format(values, digits = 15, trim = TRUE), "\n")
before <- proc.time()
model <- suppressWarnings(fit())
spent <- proc.time() - before
show("process", spent[["user.self"]] + spent[["sys.self"]])
if (is.na(structure)) {
  show("log_likelihood", as.numeric(logLik(model)))
} else {
  show("coefficients", coef(model))
  if (package == "geepack") {
    show("alpha", model$geese$alpha)
  } else {
    R <- model$working.correlation
    show("alpha", if (structure == "unstructured") t(R)[lower.tri(R)] else R[1, 2])
  }
}
