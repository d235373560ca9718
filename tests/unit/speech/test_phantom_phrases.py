"""Phrases that models invent in silence are recognized, and similar phrases that people say are not."""

import time

import pytest

from pbx.speech.phantom_phrases import is_phantom_phrase, plain_text

PHANTOM_PHRASES = """
字幕視聴ありがとうございました
詞曲 李宗盛
明镜需要您的支持 欢迎订阅明镜
Gràcies per veure el vídeo!
Subtítols realitzats per la comunitat d'Amara.org
Hvala za gledanje
¡Gracias por ver el vídeo!
Subtitulado por Jnkoil
Gracias por ver el video y hasta la próxima.
Sous-titres réalisés para la communauté d'Amara.org
❤️ par SousTitreur.com
Untertitel im Auftrag des ZDF für funk, 2017
Vielen Dank fürs Zuschauen!
Legenda Adriana Zanotto
TV GELDERLAND 2021
Sottotitoli e revisione a cura di QTSS
Υπότιτλοι AUTHORWAVE
Dziękuję za oglądanie.
Köszönöm, hogy megnézted a videót!
Nu uitați să vă abonați la canal.
Tak fordi du så med.
Undertexter från Amara.org-gemenskapen
Kiitos katsomisesta!
Субтитры сделал DimaTorzok
Продолжение следует...
Дякую за перегляд!
Altyazı M.K.
اشتركوا في القناة
MBC 뉴스 이덕영입니다.
字幕由Amara.org社区提供
请不吝点赞 订阅 转发 打赏支持明镜与点点栏目
Thanks for watching and I'll see you in the next one.
Subtitles by the Amara.org community
www.mooji.org
Teksting av Nicolai Winther
Thank you so much for watching, and I'll see you in the next video. Bye!
Thank you all for watching!
Thanks for watching, guys!
Don't forget to like, comment and subscribe!
Please like and subscribe to my channel.
Make sure to subscribe to my channel.
Transcription by CastingWords
Transcribed by https://otter.ai
Translated by Releska
Captioned by Grandma's Kitchen
See you in the next video!
www.zeoranger.co.uk
Copyright © 2020 Mooji Media Ltd. All Rights Reserved.
BF-WATCH TV 2021
Untertitelung aufgrund der Amara.org-Community
Untertitel von Stephanie Geiges
Untertitelung. BR 2018
Copyright WDR 2021
SWR 2021
Danke fürs Zusehen!
Vergesst nicht, den Kanal zu abonnieren!
Bis zum nächsten Video!
Sous-titrage ST' 501
Sous-titrage FR 2021
Sous-titrage Société Radio-Canada
Merci d'avoir regardé cette vidéo et à bientôt !
N'oubliez pas de vous abonner !
Abonnez-vous à la chaîne !
Subtítulos por la comunidad de Amara.org
¡Suscríbete al canal!
No olvides suscribirte a mi canal.
Nos vemos en el próximo video.
Legendas pela comunidade Amara.org
Transcrição e Legendas Pedro Negri
Inscreva-se no canal!
Obrigado por assistir ao vídeo.
Até o próximo vídeo!
Sottotitoli a cura di QTSS
Grazie per aver guardato il video.
Iscriviti al nostro canale!
Ondertiteld door de Amara.org gemeenschap
Bedankt voor het kijken!
Vergeet niet te abonneren op mijn kanaal.
Tack för att ni tittade!
Textning Stina Hedin www.btistudios.com
Undertekster av Ai-Media
Takk for at du så på!
Tak for at se med.
Danske tekster af Nicolai Winther
Tekstitys: Outi Kainulainen
Napisy stworzone przez społeczność Amara.org
Dzięki za oglądanie!
Zdjęcia i montaż
Titulky vytvořil JohnyX.
Děkuji za sledování.
Feliratok az Amara.org közösség
Köszönöm, hogy megnéztétek a videót.
Vă mulțumim pentru vizionare!
Nu uitați să dați like și să vă abonați.
İzlediğiniz için teşekkür ederim.
Kanalıma abone olmayı unutmayın.
Субтитры создавал DimaTorzok
Редактор субтитров А.Синецкая Корректор А.Егорова
Спасибо за просмотр!
Подписывайтесь на наш канал!
Субтитрувальниця Оля Шор
Підписуйтесь на канал!
Хвала што пратите канал.
Hvala što pratite kanal.
Ευχαριστώ που παρακολουθήσατε!
Εγγραφείτε στο κανάλι
ترجمة نانسي قنقر
شكرا على المشاهدة
لا تنسوا الاشتراك في القناة
תודה על הצפייה
ご視聴ありがとうございました。
チャンネル登録よろしくお願いします
次の動画でお会いしましょう
구독과 좋아요 부탁드립니다.
다음 영상에서 만나요!
한글자막 by 한효정
KBS 뉴스 김철수입니다.
中文字幕志願者 李宗盛
謝謝觀看
感谢收看
订阅我的频道
优优独播剧场——YoYo Television Series Exclusive
Cảm ơn các bạn đã theo dõi và hẹn gặp lại.
Hãy subscribe cho kênh Ghiền Mì Gõ Để không bỏ lỡ những video hấp dẫn
Terima kasih telah menonton!
Jangan lupa like, share dan subscribe.
वीडियो देखने के लिए धन्यवाद
ขอบคุณที่รับชมครับ
โปรดติดตามตอนต่อไป
""".strip().splitlines()
SPOKEN_PHRASES = """
Translated by whom?
Hit the like button? No idea.
Корректор А нужен
Компания сейчас закрыта (перерыв)
Thank you for calling, how may I help you?
Gracias por llamar, ¿en qué puedo ayudarle?
Vielen Dank für Ihren Anruf.
Can I subscribe to the newsletter?
Suscríbete
I watched the video you sent, thanks.
Merci, au revoir.
Könnten Sie mir die Untertitel einschalten?
One one one one, two two two two.
Null drei null, fünf fünf fünf.
Danke, danke, danke.
I'm watching the news, can you call me back later?
Please subscribe me to your newsletter.
Don't forget to subscribe to our newsletter.
Thanks for watching the kids yesterday.
Thank you for looking at it.
Thank you, bye.
Press the bell at the gate.
I'll see you in the next one, then.
We use Otter AI for our notes.
For more information visit www.example.com.
My website is www.example.org
The subtitles by default are off.
Who translated the contract?
Könnten Sie die Untertitel für den Film einschalten?
Untertitel des Films fehlen.
Danke fürs Ansehen der Unterlagen.
Abonnieren Sie unseren Newsletter.
Ich möchte den Kanal kündigen.
Merci d'avoir regardé mon dossier.
N'oubliez pas de vous abonner à notre newsletter.
Je voudrais une traduction de documents.
Gracias por mirar mi factura.
Los subtítulos no funcionan.
Quiero suscribirme al periódico.
Não se esqueça de deixar o documento.
A legenda do gráfico está errada.
Grazie per aver visto la mia pratica.
Vorrei iscrivermi al corso.
Bedankt voor het kijken naar mijn dossier.
Tack för att du tittade på det.
Takk for at du så på det.
Tak fordi du ringede.
Tak fordi du kiggede på det.
Kiitos kun katsoit asian.
Dziękuję za obejrzenie dokumentów.
Děkuji za sledování zásilky.
Köszönöm, hogy megnézte.
Mulțumesc că ați sunat.
Altyazı var mı?
Abone olmak istiyorum.
Субтитры отсутствуют.
Субтитры можно включить?
Спасибо, что посмотрели мою заявку.
Не забудьте подписаться под документом.
Превод от сметка на сметка.
Дякую за дзвінок.
Οι υπότιτλοι λείπουν.
شكرا على المتابعة.
شكرا لاتصالك.
תודה שהתקשרת.
お電話ありがとうございます。
ホームページをご覧いただきありがとうございます。
KBS 김철수 기자입니다.
알림 설정은 어떻게 해요?
봐 주셔서 감사합니다.
字幕怎么打开?
翻译人员什么时候来?
感谢您的来电。
Tôi muốn đăng ký dịch vụ.
Cảm ơn bạn đã gọi.
Terima kasih sudah menelepon.
ขอบคุณที่ดูแลครับ
धन्यवाद, फिर मिलेंगे.
""".strip().splitlines()


@pytest.mark.parametrize("text", PHANTOM_PHRASES)
def test_phantom_phrases_are_recognized_in_any_case(text: str) -> None:
    turkish = text.replace("i", "İ").replace("I", "ı")
    variants = (text, text.upper(), text.lower(), text.title(), f" - {text} ", turkish, plain_text(text))
    assert [each for each in variants if not is_phantom_phrase(each, doubtful=False)] == []


@pytest.mark.parametrize("text", SPOKEN_PHRASES)
def test_speech_with_words_of_phantom_phrases_is_not_a_phantom_phrase(text: str) -> None:
    assert [each for each in (text, text.upper(), text.lower()) if is_phantom_phrase(each, doubtful=False)] == []


def test_several_phantom_phrases_may_be_joined_with_thanks() -> None:
    assert is_phantom_phrase("Thanks for watching. Please subscribe. Bye!", doubtful=False)
    assert is_phantom_phrase("Gracias. Subtítulos realizados por la comunidad de Amara.org", doubtful=False)
    assert is_phantom_phrase("Merci d'avoir regardé. À bientôt !", doubtful=False)
    assert is_phantom_phrase("[Music] Thanks for watching!", doubtful=False)
    assert is_phantom_phrase("(applause) Thank you for watching.", doubtful=False)
    assert not is_phantom_phrase("[Music] Thank you. Bye bye.", doubtful=False)
    assert not is_phantom_phrase("Thank you. Bye bye.", doubtful=False)
    assert not is_phantom_phrase("I would like to cancel. Thanks for watching.", doubtful=False)


@pytest.mark.parametrize(
    "repeated", ["a", "like ", "and ", "thanks ", "subtit", "www ", "字幕", "구독", "ご", "не ", "i ", "1"]
)
def test_no_text_takes_a_second(repeated: str) -> None:
    started = time.process_time()
    for doubtful in (False, True):
        is_phantom_phrase(repeated * (100_000 // len(repeated)), doubtful=doubtful)
        is_phantom_phrase(f"{(repeated * 300)[:299]}!", doubtful=doubtful)
    assert time.process_time() - started < 1.0
