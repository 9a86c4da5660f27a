//! Detection: files → BuildPlan. Executes nothing.
