"""Many runs: profiles x settings x seeds, each played once, known again by what its figures depend on."""
