"""What the papers show, and what became of it here: a row for each figure, table and claim."""

ROWS = [
    (
        "ZoVH, Fig. 1",
        "functions at equal queries",
        "`synthetic`",
        "the order at μ = 0.1 reproduces; ZoAR at η/λ does as well as ZoVH",
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
        "the order reproduces, far above the zero matrix; over N and lengths of steps of ours, as "
        "the paper's own are not known to us",
    ),
    (
        "ZoVH, Fig. 3",
        "Hessian errors on layers",
        "`hessian-error`",
        "no estimate beats the zero matrix; on our network, as the paper's layer sizes are not "
        "known to us",
    ),
    (
        "ZoVH, Fig. 4",
        "bias over μ",
        "`hessian-error`",
        "its slope of 1 is a worst case: on smooth functions the bias is of order μ²",
    ),
    ("ZoVH, Fig. 5", "the two inverses over d", "`hessian-error`", "reproduces"),
    (
        "ZoVH, Fig. 7",
        "averaged baseline or f(θ), reuse or none",
        "`papers`, `synthetic`",
        "the baseline makes the difference, reuse adds a little",
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
        "ZoVH, Thm 4.7",
        "only b = F_μ may drop the identity, as we read it",
        "`papers`",
        "holds; the bias of others follows our formula",
    ),
    (
        "ZoVH, Thm 4.8, 5.2",
        "error bounds",
        "`papers`",
        "our exact errors in their place, which hold; the bounds' own words are not at hand",
    ),
    ("ZoVH, Thm 5.4, B.1", "error bounds", "-", "left out: their statements are not at hand"),
    (
        "ZoVH, Thm 5.5",
        "convergence to a floor that μ sets",
        "`papers`",
        "a geometric rate to a floor of order μ², both as derived",
    ),
    (
        "ZoVH, eq. 16",
        "the product as a descent direction",
        "`papers`",
        "where n < d; with n ≥ d it climbs on steep ground",
    ),
    (
        "ZoVH",
        "fine-tuning of language models",
        "`finetune`",
        "not at the paper's size: a small model on a CPU",
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
    *(
        ("ZO-SAH", what, "`zo-sah`", "see `zo-sah`")
        for what in (
            "Rosenbrock against RSPG",
            "logistic regression",
            "a small ResNet",
            "sweeps of T, m and κ",
            "polynomial fit against differences",
            "dimension of the subspaces",
            "the isotropy switch",
            "guided pairs",
        )
    ),
]
"""(paper and number, what it shows, cases, verdict)."""
