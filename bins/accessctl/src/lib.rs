//! The tool as a library, so that one program can carry several.
