"""Lightning: a callback mixes each training batch on the device. Noise stands for your data."""

import lightning
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.lightning import RandomMixCallback


class Keywords(lightning.LightningModule):
    """A linear model of log-mels (B, F, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(40, 10)

    def training_step(self, batch, batch_idx):
        """The callback has mixed batch[0] and left the plan."""
        x, word = batch
        loss = self.mix_plan.loss(F.cross_entropy, self.layer(x.mean(2)), word)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        """See Lightning."""
        return torch.optim.AdamW(self.parameters(), 1e-3)


def main() -> None:
    """Train for two epochs."""
    loader = DataLoader([(torch.randn(40, 98), word % 10) for word in range(64)], batch_size=16)
    callback = RandomMixCallback(rma.RandomMix(per="row", p=[[0.0, 1.0], [0.9, 1.0], [0.9, 0.0]]))  # ends unmixed
    trainer = lightning.Trainer(max_epochs=2, callbacks=[callback], logger=False, enable_checkpointing=False)
    trainer.fit(Keywords(), loader)


if __name__ == "__main__":
    main()
