//! The data plane: `paas proxy`. Never SQL or Docker.
