//! The credentials that a hypothetical request could carry (SPEC K5, B8, B11).

use codex_network_config::{CredentialId, Destination};

use super::store::{Credential, RequestPlace, SessionCredentials};

/// Whether a hypothetical request may carry a credential of the session that would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictedCredential {
    /// The credential.
    pub id: CredentialId,
    /// Whether a request there may carry its value.
    pub fitness: CredentialFitness,
    /// Where the value may go.
    pub destinations: Vec<Destination>,
}

/// Whether a request may carry the value of a credential. If not, a request that presents its dummy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialFitness {
    /// It may.
    Fits,
    /// No destination is on that server.
    OtherServer,
    /// No destination covers the path.
    OtherPath,
    /// The method of the request may not carry it.
    OtherMethod,
}

impl SessionCredentials {
    /// Whether a request to this place may carry each credential. With `usable` false, it may carry none: it is plain
    /// HTTP.
    pub(crate) fn predict(
        &self,
        place: &RequestPlace<'_>,
        usable: bool,
    ) -> Vec<PredictedCredential> {
        let predicted = self.iter().map(|credential| PredictedCredential {
            id: credential.id().clone(),
            fitness: if usable {
                fitness(credential, place)
            } else {
                CredentialFitness::OtherServer
            },
            destinations: credential.provider().destinations.clone(),
        });
        predicted.collect()
    }
}

fn fitness(credential: &Credential, place: &RequestPlace<'_>) -> CredentialFitness {
    let mut destinations = credential.provider().destinations.iter();
    if !destinations.any(|one| one.reaches(place.scheme, place.host, place.port)) {
        CredentialFitness::OtherServer
    } else if !credential.covers(place) {
        CredentialFitness::OtherPath
    } else if credential.is_bound(place) {
        CredentialFitness::Fits
    } else {
        CredentialFitness::OtherMethod
    }
}
