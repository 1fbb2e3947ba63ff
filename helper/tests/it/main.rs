//! The whole program: as clients call it, as people call it, against real registries and stores.

mod ci_variables;
mod misuse;
mod rig;
mod secret_service;
mod session;
