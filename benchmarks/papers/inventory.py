"""What the papers show, and what became of it here: a row for each figure, table and claim."""

ROWS = [
    (
        "ZoVH, Fig. 1",
        "functions at equal queries",
        "`synthetic`",
        "the order at μ = 0.1 reproduces, and so does the factor of 22 over plain descent; ZoAR at "
        "η/λ does as well as ZoVH",
    ),
    (
        "ZoVH, Table 1",
        "attacks on digits",
        "`attack`",
        "in part: reuse and averages help, ZoVH does not beat ZoAR",
    ),
    (
        "ZoVH, Fig. 2",
        "Hessian errors on functions",
        "`hessian-error`, `papers`",
        "in part: the order, and the paper's factors only with reuse; all of it far above the zero "
        "matrix",
    ),
    (
        "ZoVH, Fig. 3",
        "Hessian errors on layers",
        "`hessian-error`",
        "the order reproduces along the training; not at a small radius; "
        "no estimate beats the zero matrix",
    ),
    (
        "ZoVH, Prop. D.1, Fig. 4",
        "bias over μ",
        "`hessian-error`, `papers`",
        "its slope of 1 is a worst case: on smooth functions the bias is of order μ²",
    ),
    (
        "ZoVH, Prop. D.2, Fig. 5",
        "the two inverses over d",
        "`hessian-error`",
        "reproduces",
    ),
    (
        "ZoVH, Fig. 7",
        "averaged baseline or f(θ), reuse or none",
        "`papers`, `synthetic`",
        "reproduces: the baseline makes the difference, reuse adds a little",
    ),
    (
        "ZoVH, Fig. 6, Table 3, 4",
        "fine-tuning of language models; its time and memory",
        "`finetune`",
        "not at the paper's size, 1.3 and 13 thousand million parameters: 23 and 135 million",
    ),
    (
        "ZoVH, Table 2, 5–7",
        "HiZOO's and ZoVH's formulas side by side; settings",
        "-",
        "nothing to measure; the cases take the settings, and tune the rates on wider grids",
    ),
    (
        "ZoVH, Lemma 3.1",
        "score functions of Gaussian policies",
        "`papers`, tests",
        "exact, anisotropic ones too; their use is the natural gradient",
    ),
    (
        "ZoVH, Prop. 3.2–3.7",
        "classical estimators as policy gradients",
        "tests",
        "exact identities",
    ),
    (
        "ZoVH, Lemma 3.5",
        "only b = F_μ may drop the identity",
        "`papers`",
        "holds; the bias of others follows our formula",
    ),
    (
        "ZoVH, Thm 4.6",
        "the Hessian estimate is unbiased for that of F_μ",
        "tests",
        "exact, by an identity with leave-one-out means",
    ),
    (
        "ZoVH, Thm 4.7",
        "the baseline of least variance; F_μ where d is large",
        "`synthetic`, tests",
        "holds for the Hessian; in the product, baselines other than the mean hurt",
    ),
    (
        "ZoVH, Thm 4.8, B.1",
        "error of the Hessian, without reuse and with it",
        "`papers`",
        "hold, ten to thirty-five times above the error; B.1 says nothing once steps are long",
    ),
    (
        "ZoVH, Thm 5.2",
        "error of the Gram-diagonal inverse",
        "`papers`",
        "holds, 550 times above; as far as we know its ρ exists only for λ far above the curvature",
    ),
    (
        "ZoVH, Thm 5.4",
        "error of the product",
        "`papers`",
        "holds by a factor of a thousand or more where λ is moderate, fails where it is large",
    ),
    (
        "ZoVH, Thm 5.5",
        "convergence to a floor that μ sets",
        "`papers`",
        "a geometric rate to a floor of order μ², both as derived, below the theorem's",
    ),
    (
        "ZoVH, Def. 5.3 (eq. 16)",
        "the product as a descent direction",
        "`papers`",
        "where n < d; with n ≥ d it climbs on steep ground",
    ),
    (
        "ZoAR, Thm 3.1–3.2",
        "REINFORCE is zeroth order",
        "`papers`, tests",
        "the same numbers to rounding",
    ),
    ("ZoAR, Thm 3.3", "directions on the sphere", "tests", "exact"),
    (
        "ZoAR",
        "N = 1, 6, 20 on Rosenbrock",
        "`papers`",
        "the bias grows with N and the rate until it diverges; reuse gains nothing at d = 100",
    ),
    (
        "ZoAR",
        "drift over N and learning rate",
        "`papers`, `drift`",
        "the largest rate that is stable falls with N",
    ),
    (
        "ZoAR",
        "times fewer queries than vanilla (“16 times”)",
        "`synthetic`",
        "reproduces at μ = 0.1; little of it is left where vanilla has a small radius",
    ),
    ("ZoAR", "attacks, fine-tuning", "`attack`, `finetune`", "as for ZoVH"),
    (
        "ZO-SAH",
        "Rosenbrock against RSPG",
        "`zo-sah`",
        "200 evaluations hold with T = 5, 270 with T = 20; RSPG needs tens of thousands, not 8 000",
    ),
    (
        "ZO-SAH",
        "logistic regression",
        "`zo-sah`",
        "in part: level with RSPG or worse with T = 20, far ahead of it with T = 5",
    ),
    (
        "ZO-SAH",
        "a small ResNet",
        "`zo-sah`",
        "eight layers: loses to RSPG on 1 342 parameters, ends below it on 5 058; slow on both",
    ),
    (
        "ZO-SAH",
        "sweeps of T, m and κ",
        "`zo-sah`",
        "T = 5 is best and m = d/2; κ hardly matters",
    ),
    (
        "ZO-SAH",
        "polynomial fit against differences",
        "`zo-sah`",
        "half the evaluations, yes; no closer than the curvature that the draw left",
    ),
    (
        "ZO-SAH",
        "dimension of the subspaces",
        "`zo-sah`",
        "pairs do as well as 3, 4 and 8 at equal queries",
    ),
    (
        "ZO-SAH",
        "the isotropy switch",
        "`zo-sah`",
        "halves the queries where new planes are drawn in every step; saves little at T = 20",
    ),
    (
        "ZO-SAH",
        "guided pairs",
        "`zo-sah`",
        "no better than random ones",
    ),
]
"""(paper and number, what it shows, cases, verdict)."""
