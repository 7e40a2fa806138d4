"""Small models of transformers with weights of chance, and Trainers that mix."""

from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    Seq2SeqTrainer,
    Trainer,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from randommix_audio.integrations.transformers import RandomMixTrainerMixin

VOCABULARY = 12


class MixTrainer(RandomMixTrainerMixin, Trainer):
    pass


class MixSeq2SeqTrainer(RandomMixTrainerMixin, Seq2SeqTrainer):
    pass


def whisper(vocabulary=VOCABULARY, source_positions=20, **arguments):
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=80,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        d_model=16,
        max_source_positions=source_positions,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
        **arguments,
    )
    return WhisperForConditionalGeneration(config)


def wav2vec2(kind=Wav2Vec2ForCTC, vocabulary=VOCABULARY, stride=(5, 4), **arguments):
    config = Wav2Vec2Config(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16, 16),
        conv_kernel=(10, 8),
        conv_stride=stride,
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        mask_time_prob=0.0,
        layerdrop=0.0,
        pad_token_id=0,
        **arguments,
    )
    return kind(config)


def ast():
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_mel_bins=24,
        max_length=64,
        num_labels=5,
    )
    return ASTForAudioClassification(config)
